"""What CERN's S2 suite asks of an SRM v2.2 server, a case each, in the words of `testing.conformance`.

The codes are the ones that this server answers; each is among those that the case accepts.
"""

import csv
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[3] / "shared" / "reference" / "conformance_s2.tsv"

CASES = {
    "avail/Ping": "ping",
    "avail/PrepareToPut": "put f = SUCCESS/SPACE_AVAILABLE \n abort = SUCCESS",
    "avail/PutDone": """
        put f = SUCCESS/SPACE_AVAILABLE
        send f content
        done f = SUCCESS/SUCCESS
        rm f = SUCCESS/SUCCESS
    """,
    "basic/AbortFiles": """
        put f g = SUCCESS/SPACE_AVAILABLE,SPACE_AVAILABLE
        abort f g = SUCCESS/SUCCESS,SUCCESS
        abort = SUCCESS
        status = ABORTED/ABORTED,ABORTED
    """,
    "basic/AbortRequest": "put f = SUCCESS \n abort = SUCCESS \n status f = ABORTED/ABORTED",
    "basic/BringOnline": "store f content = SUCCESS \n bring f = SUCCESS|REQUEST_QUEUED \n abort = SUCCESS",
    "basic/CheckPermission": "store f content = SUCCESS \n check f = SUCCESS/SUCCESS",
    "basic/Copy": """
        store f content = SUCCESS
        copy f g = REQUEST_INPROGRESS|SUCCESS
        ready = SUCCESS/SUCCESS
        get g = SUCCESS/FILE_PINNED
        read g content
    """,
    "basic/StatusOfCopyRequest": "store f content = SUCCESS\ncopy f g = ?\nready = SUCCESS/SUCCESS",
    "basic/ExtendFileLifeTime": "put f = SUCCESS \n extend f pin=720 = SUCCESS/SUCCESS \n abort = SUCCESS",
    "basic/GetPermission": "store f content = SUCCESS \n permissions f = SUCCESS/SUCCESS",
    "basic/GetRequestSummary": "put f g = SUCCESS \n summary = SUCCESS/SUCCESS \n abort = SUCCESS",
    "basic/GetRequestTokens": "put f = SUCCESS \n tokens = SUCCESS \n abort = SUCCESS",
    "basic/GetSpaceMetaData": """
        reserve = SUCCESS
        reserved = SUCCESS
        space = SUCCESS/SUCCESS
        free = SUCCESS
    """,
    "basic/GetSpaceTokens": "reserve about=mine = SUCCESS \n spaces about=mine = SUCCESS \n free = SUCCESS",
    "basic/GetTransferProtocols": "protocols = SUCCESS",
    "basic/Ls": "store f content = SUCCESS \n ls f = SUCCESS/SUCCESS",
    "basic/LsRecursive": """
        mkdir d = SUCCESS
        mkdir d/e = SUCCESS
        ls d all = SUCCESS/SUCCESS
        rmdir d recursive = SUCCESS
    """,
    "basic/Mkdir": "mkdir d = SUCCESS \n ls d = SUCCESS/SUCCESS \n rmdir d = SUCCESS",
    "basic/Mv": "store f content = SUCCESS \n mv f g = SUCCESS \n rm g = SUCCESS/SUCCESS",
    "basic/Ping": "ping",
    "basic/PrepareToGet": "store f content = SUCCESS \n get f = SUCCESS/FILE_PINNED \n abort = SUCCESS",
    "basic/PrepareToPut": "put f total=600 = SUCCESS/SPACE_AVAILABLE \n left 500 1200 \n abort = SUCCESS",
    "basic/PutDone": "put f = SUCCESS \n status f = SUCCESS \n send f content \n done f = SUCCESS/SUCCESS",
    "basic/ReleaseFiles": "store f content = SUCCESS \n get f = SUCCESS \n release f = SUCCESS/SUCCESS",
    "basic/ReleaseSpace": "reserve = SUCCESS \n free = SUCCESS \n free = INVALID_REQUEST",
    "basic/ReserveSpace": "reserve = SUCCESS \n free = SUCCESS",
    "basic/Rm": "store f content = SUCCESS \n rm f = SUCCESS/SUCCESS \n ls f = FAILURE/INVALID_PATH",
    "basic/Rmdir": "mkdir d = SUCCESS \n rmdir d = SUCCESS",
    "basic/RmdirRecursive": "mkdir d = SUCCESS \n mkdir d/e = SUCCESS \n rmdir d recursive = SUCCESS",
    "basic/SetPermission": """
        mkdir d = SUCCESS
        permit d ADD owner=RWX other=RWX = SUCCESS
        rmdir d = SUCCESS
    """,
    "basic/StatusOfBringOnlineRequest": "store f content = SUCCESS \n bring f = ? \n ready = SUCCESS/SUCCESS",
    "basic/StatusOfGetRequest": "store f content = SUCCESS \n get f = ? \n ready = SUCCESS/FILE_PINNED",
    "basic/StatusOfLsRequest": "mkdir d = SUCCESS \n ls d = SUCCESS/SUCCESS",
    "basic/StatusOfPutRequest": "put f g = SUCCESS \n status = SUCCESS/SPACE_AVAILABLE,SPACE_AVAILABLE",
    "basic/StatusOfReserveSpaceRequest": "reserve = SUCCESS \n reserved = SUCCESS \n free = SUCCESS",
    "usecase/CheckGarbageSpaceCollector": """
        reserve lifetime=1 = SUCCESS
        wait 1.1
        space = SUCCESS/SPACE_LIFETIME_EXPIRED
        put f space = FAILURE/INVALID_REQUEST
    """,
    "usecase/CheckSize": """
        store f content = SUCCESS
        get f = ?
        ready = SUCCESS/FILE_PINNED
        read f content
        ls f = SUCCESS/SUCCESS
        size 7
    """,
    "usecase/CheckSpace": """
        reserve size=1000 = SUCCESS
        space = SUCCESS/SUCCESS
        unused 1000
        put f size=7 space = SUCCESS/SPACE_AVAILABLE
        send f content
        done f = SUCCESS/SUCCESS
        space #1 = SUCCESS/SUCCESS
        unused 993
        rm f = SUCCESS
        space #1 = SUCCESS/SUCCESS
        unused 1000
        free #1 = SUCCESS
    """,
    "usecase/ExtendFileLifeTime": "store f content = SUCCESS \n extend f file=720 = SUCCESS/SUCCESS",
    "usecase/FileNames00": f"store {'X' * 190} content = SUCCESS/SUCCESS \n ls {'X' * 190} = SUCCESS/SUCCESS",
    "usecase/FileNames01": f"put {'X' * 256} = FAILURE/INVALID_REQUEST \n ping",
    "usecase/GetRemoved01": "store f content = SUCCESS \n rm f = SUCCESS \n get f = FAILURE/INVALID_PATH",
    "usecase/GetStatusPartialEx": """
        store f content = SUCCESS
        get f g = PARTIAL_SUCCESS
        status f = PARTIAL_SUCCESS/FILE_PINNED
    """,
    "usecase/GetStatusPartialNe": """
        store f content = SUCCESS
        get f g = PARTIAL_SUCCESS
        status g = PARTIAL_SUCCESS/INVALID_PATH
    """,
    "usecase/LsDirCountOffset": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        store d/g content = SUCCESS
        ls d offset=1 count=1 = SUCCESS/SUCCESS
        shown g
    """,
    "usecase/LsDirDetail": """
        mkdir d = SUCCESS
        ls d levels=0 = SUCCESS/SUCCESS
        shown
        detailed
    """,
    "usecase/LsDirFull": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        ls d = SUCCESS/SUCCESS
        shown f
        rm d/f = SUCCESS
        rmdir d = SUCCESS
    """,
    "usecase/LsFullDetail": """
        store f content = SUCCESS
        ls f = SUCCESS/SUCCESS
        size 7
        detailed
    """,
    "usecase/LsNonExistent": "ls nothing = FAILURE/INVALID_PATH",
    "usecase/LsTopDir": "ls /vo/data = SUCCESS/SUCCESS",
    "usecase/Mkdir00": "\n".join(
        (
            *(f"mkdir {'/'.join('abcdefgh'[:depth])} = SUCCESS" for depth in range(1, 9)),
            *(f"ls {'/'.join('abcdefgh'[:depth])} = SUCCESS/SUCCESS" for depth in range(1, 9)),
            *(f"rmdir {'/'.join('abcdefgh'[:depth])} = SUCCESS" for depth in range(8, 0, -1)),
        )
    ),
    "usecase/MkdirExistent": "mkdir d = SUCCESS \n mkdir d = DUPLICATION_ERROR",
    "usecase/MvBeingPut": """
        put f = SUCCESS
        mv f g = INVALID_PATH
        done f = FAILURE/INVALID_PATH
        rm f = SUCCESS
    """,
    "usecase/MvDir": "mkdir d = SUCCESS \n mv d e = SUCCESS \n ls e = SUCCESS/SUCCESS \n rmdir e = SUCCESS",
    "usecase/MvDirBeingPutInto": """
        mkdir d = SUCCESS
        put d/f = SUCCESS
        mv d e = SUCCESS
        done d/f = FAILURE/INVALID_PATH
        rmdir e = SUCCESS
    """,
    "usecase/MvDirBeingPutInto1": """
        mkdir d = SUCCESS
        put d/f = SUCCESS
        mv d e = SUCCESS
        send d/f content
        done d/f = FAILURE/INVALID_PATH
        rmdir e = SUCCESS
    """,
    "usecase/MvIntoDir": """
        mkdir d = SUCCESS
        store f content = SUCCESS
        mv f d = SUCCESS
        ls d = SUCCESS/SUCCESS
        shown f
    """,
    "usecase/MvSameFile": "store f content = SUCCESS \n mv f f = SUCCESS",
    "usecase/OverwritePin": """
        store f content = SUCCESS
        get f = SUCCESS/FILE_PINNED
        put f overwrite = SUCCESS/SPACE_AVAILABLE
        status f #1 = SUCCESS/FILE_PINNED
    """,
    "usecase/Pin00": """
        store f content = SUCCESS
        get f = SUCCESS
        extend f pin=720 = SUCCESS/SUCCESS
        release f = SUCCESS/SUCCESS
        extend f pin=720 = FAILURE/RELEASED
    """,
    "usecase/Pin01": """
        put f = SUCCESS
        send f content
        done f = SUCCESS
        extend f pin=720 = FAILURE/INVALID_REQUEST
    """,
    "usecase/Pin02": """
        put f = SUCCESS
        send f content
        done f = SUCCESS
        extend f file=720 = SUCCESS/SUCCESS
        release f = INVALID_REQUEST
    """,
    "usecase/Pin03": """
        store f content = SUCCESS
        get f = SUCCESS
        release f = SUCCESS/SUCCESS
        extend f pin=1440 = FAILURE/RELEASED
    """,
    "usecase/Pin05": """
        store f content = SUCCESS
        get f pin=1000 = SUCCESS
        status f = SUCCESS/FILE_PINNED
        left 900 1000
        get f pin=2000 = SUCCESS
        status f = SUCCESS/FILE_PINNED
        left 1900 2000
        release f #1 = SUCCESS/SUCCESS
        status f #1 = SUCCESS/RELEASED
        left 0 0
        status f #2 = SUCCESS/FILE_PINNED
        left 1900 2000
    """,
    "usecase/Pin06": """
        store f content = SUCCESS
        get f pin=1000 = SUCCESS
        get f pin=2000 = SUCCESS
        release f anywhere = SUCCESS/SUCCESS
        status f #1 = SUCCESS/RELEASED
        left 0 0
        status f #2 = SUCCESS/RELEASED
        left 0 0
    """,
    "usecase/Pin07": """
        store f content = SUCCESS
        get f pin=1000 = SUCCESS
        extend f pin=1440 = SUCCESS/SUCCESS
        status f = SUCCESS/FILE_PINNED
        left 1400 1440
    """,
    "usecase/PrepareToPutNEVER": "put f = SUCCESS/SPACE_AVAILABLE \n rm f = SUCCESS/SUCCESS",
    "usecase/PutGet01": """
        store f content = SUCCESS
        get f = ?
        ready = SUCCESS/FILE_PINNED
        read f content
    """,
    "usecase/PutGet0File": "put f = SUCCESS \n done f = FAILURE/INVALID_PATH",
    "usecase/PutGet0File1": """
        put f = SUCCESS
        send f
        done f = SUCCESS/SUCCESS
        get f = SUCCESS/FILE_PINNED
    """,
    "usecase/PutGetAbort": """
        store f content = SUCCESS
        store g content = SUCCESS
        get f g = SUCCESS/FILE_PINNED,FILE_PINNED
        abort f = SUCCESS/SUCCESS
        status = PARTIAL_SUCCESS/ABORTED,FILE_PINNED
    """,
    "usecase/PutNearline": "put f policy=CUSTODIAL latency=NEARLINE = NOT_SUPPORTED/NOT_SUPPORTED",
    "usecase/PutOverwriteTransf": """
        put f overwrite = SUCCESS/SPACE_AVAILABLE
        put f overwrite = FAILURE/FILE_BUSY
        status f #1 = SUCCESS/SPACE_AVAILABLE
        rm f = SUCCESS
    """,
    "usecase/PutOverwriteTransfParallel": """
        put f overwrite = SUCCESS/SPACE_AVAILABLE
        status f = SUCCESS/SPACE_AVAILABLE
        put f overwrite = FAILURE/FILE_BUSY
        status f = FAILURE/FILE_BUSY
    """,
    "usecase/PutRemoved01": """
        store f content = SUCCESS
        rm f = SUCCESS
        store f content = SUCCESS/SUCCESS
    """,
    "usecase/PutRemoved02": """
        store f content = SUCCESS
        put f g = PARTIAL_SUCCESS/DUPLICATION_ERROR,SPACE_AVAILABLE
    """,
    "usecase/PutRemoved03": """
        store f content = SUCCESS
        put g f = PARTIAL_SUCCESS/SPACE_AVAILABLE,DUPLICATION_ERROR
        status f g = PARTIAL_SUCCESS/DUPLICATION_ERROR,SPACE_AVAILABLE
    """,
    "usecase/PutStatusPartialEx": """
        store f content = SUCCESS
        put f g = PARTIAL_SUCCESS
        status f = PARTIAL_SUCCESS/DUPLICATION_ERROR
    """,
    "usecase/PutStatusPartialNe": """
        store f content = SUCCESS
        put f g = PARTIAL_SUCCESS
        status g = PARTIAL_SUCCESS/SPACE_AVAILABLE
    """,
    "usecase/PutTimeout": """
        put f total=1 = SUCCESS/SPACE_AVAILABLE
        wait 1.1
        status = SUCCESS/SPACE_AVAILABLE
        wait 1
        status = REQUEST_TIMED_OUT/FAILURE
    """,
    "usecase/PutWrongProtocol": "put f protocol=pippo = NOT_SUPPORTED",
    "usecase/ReleaseFiles": """
        put f = SUCCESS
        send f content
        done f = SUCCESS
        release f = INVALID_REQUEST
    """,
    "usecase/ReleaseFilesNoReqID": """
        store f content = SUCCESS
        get f = SUCCESS
        release f anywhere = SUCCESS/SUCCESS
    """,
    "usecase/ReserveSpace": """
        reserve size=1000000000000 = NO_FREE_SPACE
        reserve = SUCCESS
        reserved = SUCCESS
        free = SUCCESS
    """,
    "usecase/Rmdir01": "mkdir d = SUCCESS \n store d/f content = SUCCESS \n rmdir d = NON_EMPTY_DIRECTORY",
    "usecase/RmdirBeingPutInto": """
        mkdir d = SUCCESS
        put d/f = SUCCESS
        ls d/f = SUCCESS/FILE_BUSY
        rmdir d = NON_EMPTY_DIRECTORY
        rm d/f = SUCCESS
        rmdir d = SUCCESS
    """,
    "usecase/RmdirBeingPutIntoTransf": """
        mkdir d = SUCCESS
        put d/f = SUCCESS
        send d/f content
        ls d/f = SUCCESS/FILE_BUSY
        rmdir d = NON_EMPTY_DIRECTORY
    """,
    "usecase/RmdirNotEmpty": """
        mkdir d = SUCCESS
        store d/f content = SUCCESS
        rmdir d = NON_EMPTY_DIRECTORY
        rm d/f = SUCCESS
        rmdir d = SUCCESS
    """,
    "usecase/Space00": """
        reserve policy=CUSTODIAL latency=NEARLINE = NOT_SUPPORTED
        reserve policy=CUSTODIAL latency=ONLINE = NOT_SUPPORTED
        reserve policy=REPLICA latency=ONLINE = SUCCESS
        free = SUCCESS
    """,
    "usecase/Space03": "reserve unspoken = INVALID_REQUEST",
    "usecase/TokenSensCase": """
        put f g about=Case = SUCCESS
        tokens about=CASE = INVALID_REQUEST
        tokens about=Case = SUCCESS
        abort = SUCCESS
    """,
}


@pytest.mark.parametrize("name", CASES)
def test_s2(run, name):
    run.steps(CASES[name].replace(" \n ", "\n"))


@pytest.mark.skipif(not SUITE.exists(), reason="the list of the suite's cases is not at hand")
def test_every_case_of_the_suite_is_here():
    with SUITE.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    assert {f"{row[0]}/{row[1]}" for row in rows} == set(CASES)
