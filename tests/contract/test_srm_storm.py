"""What the StoRM test suite asks of an SRM operation, a row each, in the words of `testing.conformance`.

Rows about StoRM's own back end, about other protocols and about its storage areas' special files are not
here. Rows that ask for the same of several forms of a SURL are one case: each is run with both forms.
"""

import pytest

from srm_dicom.testing.conformance import Run

WELL_FORMED = "token=00000000-0000-4000-8000-000000000000"
FAKE = "token=fake"
GOT = "store f content = SUCCESS \n get f = SUCCESS/FILE_PINNED"
PUT = "put f = SUCCESS \n send f content \n done f = SUCCESS/SUCCESS"

CASES = {
    "srmAbort/another user's request": f"{GOT} \n as bob \n abort = AUTHORIZATION_FAILURE",
    "srmAbort/prepare to get": f"{GOT} \n abort = SUCCESS \n status = ABORTED/ABORTED",
    "srmAbort/twice": f"{GOT} \n abort = SUCCESS \n abort = SUCCESS",
    "srmAbort/multiple files": "put f g = SUCCESS \n abort f g = SUCCESS/SUCCESS,SUCCESS",
    "srmAbort/fake token": f"abort {FAKE} = INVALID_REQUEST",
    "srmAbort/well-formed token": f"abort {WELL_FORMED} = INVALID_REQUEST",
    "srmAbort/after prepare to put": "put f = SUCCESS \n abort = SUCCESS \n ls f = FAILURE/INVALID_PATH",
    "srmAbort/after put done": f"{PUT} \n abort = SUCCESS \n ls f = SUCCESS/SUCCESS",
    "srmBol/online file": "store f content = SUCCESS \n bring f = SUCCESS/SUCCESS",
    "srmBol/invalid SURL": "bring nothing = FAILURE/INVALID_PATH",
    "srmBol/multiple invalid SURLs": "bring no nothing = FAILURE/INVALID_PATH,INVALID_PATH",
    "srmBol/multiple online files": """
        store f content = SUCCESS
        store g content = SUCCESS
        bring f g = SUCCESS/SUCCESS,SUCCESS
    """,
    "srmBol/multiple mixed files": """
        store f content = SUCCESS
        bring f no = PARTIAL_SUCCESS/SUCCESS,INVALID_PATH
    """,
    "srmGTP/protocols": "protocols = SUCCESS",
    "srmLs/root": "ls /vo/data = SUCCESS/SUCCESS",
    "srmLs/existent directory": "mkdir d = SUCCESS \n ls d = SUCCESS/SUCCESS",
    "srmLs/unexistent directory": "ls nothing/ = FAILURE/INVALID_PATH",
    "srmLs/existent file": "store f content = SUCCESS \n ls f = SUCCESS/SUCCESS",
    "srmLs/unexistent file": "ls nothing = FAILURE/INVALID_PATH",
    "srmLs/detailed directory": "mkdir d = SUCCESS \n ls d levels=0 = SUCCESS/SUCCESS",
    "srmLs/detailed file": "store f content = SUCCESS \n ls f = SUCCESS/SUCCESS \n size 7",
    "srmLs/recursive": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        ls d all = SUCCESS/SUCCESS
        shown f
    """,
    "srmLs/another storage area": "ls /vo/other = FAILURE/INVALID_PATH",
    "srmLs/a reserved area": "ls /.upload = FAILURE/INVALID_PATH",
    "srmLs/dots": "mkdir d = SUCCESS \n store f content = SUCCESS \n ls d/../f = SUCCESS/SUCCESS",
    "srmLs/dots that leave the root": "ls /../../etc = FAILURE/INVALID_PATH",
    "srmMkDir/new": "mkdir d = SUCCESS",
    "srmMkDir/invalid path": "mkdir no/d = INVALID_PATH",
    "srmMkDir/exists": "mkdir d = SUCCESS \n mkdir d = DUPLICATION_ERROR",
    "srmMkDir/no parent": "mkdir a/b/c = INVALID_PATH",
    "srmMkDir/parent a file": "store f content = SUCCESS \n mkdir f/d = INVALID_PATH",
    "srmMkDir/over a file": "store f content = SUCCESS \n mkdir f = DUPLICATION_ERROR",
    "srmMkDir/unauthorised": "as reader \n mkdir d = AUTHORIZATION_FAILURE",
    "srmMkDir/another VO": "mkdir /other/d = INVALID_PATH",
    "srmMv/file": """
        store f content = SUCCESS
        mv f g = SUCCESS
        ls f g = PARTIAL_SUCCESS/INVALID_PATH,SUCCESS
    """,
    "srmMv/exists": "store f content = SUCCESS \n store g content = SUCCESS \n mv f g = DUPLICATION_ERROR",
    "srmMv/into directory": """
        store f content = SUCCESS
        mkdir d = SUCCESS
        mv f d = SUCCESS
        ls d/f = SUCCESS/SUCCESS
    """,
    "srmMv/non-empty directory": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        mv d e = SUCCESS
        ls e/f = SUCCESS/SUCCESS
    """,
    "srmMv/non-empty directory into an empty one": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        mkdir e = SUCCESS
        mv d e = SUCCESS
        ls e/d/f = SUCCESS/SUCCESS
    """,
    "srmMv/non-empty directory onto a file": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        store g content = SUCCESS
        mv d g = DUPLICATION_ERROR
    """,
    "srmMv/into a directory that has the name": """
        mkdir d = SUCCESS
        mkdir e = SUCCESS
        mkdir e/d = SUCCESS
        mv d e = DUPLICATION_ERROR
    """,
    "srmMv/over itself": "store f content = SUCCESS \n mv f f = SUCCESS",
    "srmMv/active get": f"{GOT} \n mv f g = SUCCESS",
    "srmMv/active put": "put f = SUCCESS \n mv f g = INVALID_PATH",
    "srmMv/unauthorised": "store f content = SUCCESS \n as reader \n mv f g = AUTHORIZATION_FAILURE",
    "srmMv/another VO": "store f content = SUCCESS \n mv f /other/f = INVALID_PATH",
    "srmPd/existent": PUT,
    "srmPd/twice": f"{PUT} \n done f = FAILURE/DUPLICATION_ERROR",
    "srmPing/ping": "ping",
    "srmPing/a request with other letters": "put f about=Größe = SUCCESS \n tokens about=Größe = SUCCESS",
    "srmPtG/existent": f"{GOT} \n read f content",
    "srmPtG/non-existent": "get nothing = FAILURE/INVALID_PATH",
    "srmPtG/twice": f"{GOT} \n get f = SUCCESS/FILE_PINNED",
    "srmPtG/multiple SURLs": """
        store f content = SUCCESS
        store g content = SUCCESS
        get f g = SUCCESS/FILE_PINNED,FILE_PINNED
    """,
    "srmPtG/large file": f"store f {'x' * 100_000} = SUCCESS \n get f = SUCCESS/FILE_PINNED",
    "srmPtG/another storage area": "get /vo/other/f = FAILURE/INVALID_PATH",
    "srmPtG/a protocol that is not spoken": """
        store f content = SUCCESS
        get f protocol=xroot = NOT_SUPPORTED
    """,
    "srmPtP/new": "put f = SUCCESS/SPACE_AVAILABLE",
    "srmPtP/exists": "store f content = SUCCESS \n put f = FAILURE/DUPLICATION_ERROR",
    "srmPtP/overwrite": "store f content = SUCCESS \n put f overwrite = SUCCESS/SPACE_AVAILABLE",
    "srmPtP/content after overwriting": """
        store f content = SUCCESS
        store f other overwrite = SUCCESS/SUCCESS
        get f = SUCCESS
        read f other
    """,
    "srmPtP/a protocol that is not spoken": "put f protocol=xroot = NOT_SUPPORTED",
    "srmPtP/the first protocol that is spoken": "put f protocol=xroot,https = SUCCESS/SPACE_AVAILABLE",
    "srmPtP/unknown space": f"put f {WELL_FORMED} = FAILURE/INVALID_REQUEST",
    "srmPtP/the token of a space": """
        reserve size=100 about=mine = SUCCESS
        spaces about=mine = SUCCESS
        put f size=7 space = SUCCESS/SPACE_AVAILABLE
    """,
    "srmPtP/expected size": "put f size=1000 = SUCCESS/SPACE_AVAILABLE",
    "srmPtP/multiple SURLs": "put f g = SUCCESS/SPACE_AVAILABLE,SPACE_AVAILABLE",
    "srmPtP/busy": "put f = SUCCESS \n put f = FAILURE/FILE_BUSY",
    "srmRf/SURL and token": f"{GOT} \n release f = SUCCESS/SUCCESS",
    "srmRf/SURL": f"{GOT} \n release f anywhere = SUCCESS/SUCCESS",
    "srmRf/token": f"{GOT} \n release = SUCCESS/SUCCESS",
    "srmRf/neither": "release anywhere = INVALID_REQUEST",
    "srmRf/several gets by SURL": f"""
        {GOT}
        get f = SUCCESS
        release f anywhere = SUCCESS
        status #1 = SUCCESS/RELEASED
    """,
    "srmRf/several files by token": """
        store f content = SUCCESS
        store g content = SUCCESS
        get f g = SUCCESS
        release = SUCCESS/SUCCESS,SUCCESS
    """,
    "srmRm/existent": "store f content = SUCCESS \n rm f = SUCCESS/SUCCESS",
    "srmRm/unexistent": "rm nothing = FAILURE/INVALID_PATH",
    "srmRm/unauthorised": "store f content = SUCCESS \n as reader \n rm f = FAILURE/AUTHORIZATION_FAILURE",
    "srmRm/partial": "store f content = SUCCESS \n rm f nothing = PARTIAL_SUCCESS/SUCCESS,INVALID_PATH",
    "srmRm/a directory": "mkdir d = SUCCESS \n rm d = FAILURE/INVALID_PATH",
    "srmRm/a pinned file aborts its get": f"{GOT} \n rm f = SUCCESS \n status = ABORTED/ABORTED",
    "srmRm/another VO": "rm /other/f = FAILURE/INVALID_PATH",
    "srmRm/ends puts": "put f = SUCCESS \n rm f = SUCCESS \n status = ABORTED/ABORTED",
    "srmRm/ends puts of another user": """
        put f = SUCCESS
        as bob
        rm f = SUCCESS
        as alice
        status = ABORTED/ABORTED
    """,
    "srmRmDir/empty": "mkdir d = SUCCESS \n rmdir d = SUCCESS",
    "srmRmDir/non-existent": "rmdir nothing = INVALID_PATH",
    "srmRmDir/non-empty": "mkdir d = SUCCESS \n store d/f content = SUCCESS \n rmdir d = NON_EMPTY_DIRECTORY",
    "srmRmDir/non-empty, recursive": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        rmdir d recursive = SUCCESS
    """,
    "srmRmDir/a file": "store f content = SUCCESS \n rmdir f = INVALID_PATH",
    "srmRmDir/unauthorised": "mkdir d = SUCCESS \n as reader \n rmdir d = AUTHORIZATION_FAILURE",
    "srmSBoL/not yet recalled": """
        store f content = SUCCESS
        reserve size=100 = SUCCESS
        into f = SUCCESS
        purge f = SUCCESS
        bring f = SUCCESS|REQUEST_QUEUED|REQUEST_INPROGRESS
        ready = SUCCESS/SUCCESS
    """,
    "srmSBoL/unknown token": f"status kind=bring {WELL_FORMED} = INVALID_REQUEST",
    "srmSPtG/pinned": f"{GOT} \n status = SUCCESS/FILE_PINNED",
    "srmSPtG/unexistent file": "get nothing = FAILURE \n status = FAILURE/INVALID_PATH",
    "srmSPtG/unknown token": f"status kind=get {WELL_FORMED} = INVALID_REQUEST",
    "srmSPtP/unknown token": f"status kind=put {WELL_FORMED} = INVALID_REQUEST",
    "validation/space metadata of a wrong token": f"space {FAKE} = FAILURE/INVALID_REQUEST",
    "validation/summary of a wrong token": f"summary {FAKE} = INVALID_REQUEST",
    "validation/release of a wrong space": f"free {FAKE} = INVALID_REQUEST",
    "validation/space tokens of an unknown description": "spaces about=nothing = INVALID_REQUEST",
    "validation/request tokens of an unknown description": "tokens about=nothing = INVALID_REQUEST",
    "validation/put of a malformed SURL": "put http://localhost/f = FAILURE/INVALID_REQUEST",
    "validation/put status of a malformed token": f"status kind=put {FAKE} = INVALID_REQUEST",
    "validation/get of a malformed SURL": "get http://localhost/f = FAILURE/INVALID_PATH",
    "validation/get status of a malformed token": f"status kind=get {FAKE} = INVALID_REQUEST",
    "validation/put done of a malformed token": f"done f {FAKE} = INVALID_REQUEST",
    "validation/put done of a malformed SURL": """
        put f = SUCCESS
        done http://localhost/f = FAILURE/INVALID_PATH
    """,
    "validation/abort of a malformed token": f"abort {FAKE} = INVALID_REQUEST",
    "validation/abort of files of a malformed token": f"abort f {FAKE} = INVALID_REQUEST",
    "validation/ls of a malformed SURL": "ls http://localhost/f = FAILURE/INVALID_PATH",
    "validation/mkdir of a malformed SURL": "mkdir http://localhost/d = INVALID_PATH",
    "validation/rmdir of a malformed SURL": "rmdir http://localhost/d = INVALID_PATH",
    "validation/release of a malformed token": f"release f {FAKE} = INVALID_REQUEST",
    "validation/rm of a malformed SURL": "rm http://localhost/f = FAILURE/INVALID_PATH",
    "validation/mv of a malformed SURL": "mv http://localhost/f g = INVALID_PATH",
    "space/used": """
        reserve size=100 = SUCCESS
        put f size=7 space = SUCCESS
        send f content
        done f = SUCCESS
        space #1 = SUCCESS
        unused 93
    """,
    "space/full": "reserve size=5 = SUCCESS \n put f size=7 space = FAILURE/NO_USER_SPACE",
    "space/another user's": "reserve = SUCCESS \n as bob \n space = FAILURE/INVALID_REQUEST",
    "space/update": """
        reserve size=100 = SUCCESS
        update size=200 = SUCCESS
        updated = SUCCESS
        space = SUCCESS
        unused 200
        update = INVALID_REQUEST
        free = SUCCESS
    """,
    "space/files move into it, stay and are purged": """
        store f content = SUCCESS
        reserve size=100 = SUCCESS
        stay f = FAILURE/INVALID_REQUEST
        into f = SUCCESS/SUCCESS
        space = SUCCESS
        unused 93
        stay f = SUCCESS/SUCCESS
        purge f = SUCCESS/SUCCESS
        space = SUCCESS
        unused 100
        get f = REQUEST_QUEUED|REQUEST_INPROGRESS|SUCCESS
        ready = SUCCESS/FILE_PINNED
        read f content
    """,
    "copy/of nothing": "copy nothing g = FAILURE/INVALID_PATH",
    "copy/onto a file": """
        store f content = SUCCESS
        store g content = SUCCESS
        copy f g = FAILURE/DUPLICATION_ERROR
    """,
    "copy/to a site that is not listed": """
        store f content = SUCCESS
        copy f srm://elsewhere.example.org/f = FAILURE/AUTHORIZATION_FAILURE
    """,
    "copy/to another site without a delegated credential": """
        store f content = SUCCESS
        copy f srm://localhost:1/f = FAILURE/AUTHENTICATION_FAILURE
    """,
    "mv/leaves its name to a directory": """
        store a content = SUCCESS
        mv a b = SUCCESS
        mkdir a = SUCCESS
        store a/c content = SUCCESS
        get b = SUCCESS
        read b content
        get a/c = SUCCESS
        read a/c content
        rm a/c b = SUCCESS
        rmdir a = SUCCESS
    """,
    "mv/leaves its directory to a file": """
        mkdir a = SUCCESS
        store a/c content = SUCCESS
        mv a/c b = SUCCESS
        rmdir a = SUCCESS
        store a other = SUCCESS
        get a = SUCCESS
        read a other
        get b = SUCCESS
        read b content
    """,
    "copy/into custody": "store f content = SUCCESS\ncopy f g policy=CUSTODIAL = NOT_SUPPORTED",
    "copy/by a reader": "store f content = SUCCESS\nas reader\ncopy f g = FAILURE/AUTHORIZATION_FAILURE",
    "request/suspended and resumed": """
        store f content = SUCCESS
        get f = SUCCESS
        suspend = INVALID_REQUEST
        resume = INVALID_REQUEST
        put g = SUCCESS
        suspend = NOT_SUPPORTED
        resume = NOT_SUPPORTED
    """,
}  # fmt: skip


@pytest.mark.parametrize("simple", [False, True], ids=["query", "simple"])
@pytest.mark.parametrize("name", CASES)
def test_storm(element, users, name, simple):
    Run(element, users, simple=simple).steps(CASES[name].replace(" \n ", "\n"))
