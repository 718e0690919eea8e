"""How rpc operations are declared: a name, its parts, its result, and a function that knows no SOAP.

On the wire an operation is ``<tns:name>`` with one unqualified child per part, answered by
``<tns:nameResponse>`` with one unqualified child (WSDL 1.1 section 3.5, style rpc). spyne would qualify
the children, and gSOAP would not find them; hence `unqualified` on every member. Types live in a
namespace of their own that nobody sees, because SRM gives messages and types the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from srm_dicom.soap.compat import ComplexModel, ComplexModelMeta, Service, ServiceMeta, rpc

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Function = Callable[..., Any]
"""Called as ``function(environ, *values)``, values in the order of the parts, None for one that is absent."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an rpc port type.

    Attributes:
        name: local name of the wrapper element.
        parts: name and spyne type of each part of the request, in order.
        result: name and spyne type of the part of the response; None for an empty response.
        function: what is called.
        encode: writes the whole response envelope from the function's result, where spyne is too slow.
    """

    name: str
    parts: Mapping[str, type]
    result: tuple[str, type] | None
    function: Function
    encode: Callable[[Any], bytes] | None = field(default=None)

    def call(self, environ: WSGIEnvironment, message: Any) -> Any:
        """Call the function with the parts of a decoded message."""
        return self.function(environ, *(getattr(message, part) for part in self.parts))


def rpc_operation(
    name: str,
    request_type: type,
    response_type: type,
    function: Function,
    *,
    encode: Callable[[Any], bytes] | None = None,
) -> Operation:
    """Declare an operation of one part each way, named as SRM and others do: nameRequest, nameResponse.

    Some clients leave out a request that has nothing in it; the function gets an empty one then.
    """

    def call(environ: WSGIEnvironment, request: Any) -> Any:
        return function(environ, request_type() if request is None else request)

    parts = {f"{name}Request": request_type}
    return Operation(name, parts, (f"{name}Response", response_type), call, encode)


def unqualified(model: Any, *, many: bool = False) -> Any:
    """Return a type for an optional member without namespace; `many` allows any number of it."""
    return model.customize(sub_ns="", min_occurs=0, max_occurs="unbounded" if many else 1, nullable=True)


def complex_type(namespace: str, name: str, members: Mapping[str, Any]) -> Any:
    """Build a complex type from its members; a member type that is a list of one stands for many.

    ``complex_type(tns, "StringPair", {"string1": Unicode, "string2": Unicode})``
    """
    model = ComplexModelMeta(
        name, (ComplexModel,), {"__namespace__": f"{namespace}/types", "__module__": __name__}
    )
    for member, declared in members.items():
        many = isinstance(declared, list)
        model.append_field(member, unqualified(declared[0] if many else declared, many=many))
    return model


def rpc_service(operations: Iterable[Operation], name: str = "RpcService") -> type:
    """Make the spyne service class of some operations."""
    methods = {operation.name: _method(operation) for operation in operations}
    service: type = ServiceMeta(name, (Service,), methods)
    return service


def _method(operation: Operation) -> Any:
    def placeholder(_ctx: object, *_values: object) -> None:
        """Stand for the function, which the endpoint calls itself: spyne would hide its errors."""

    placeholder.__name__ = operation.name
    options: dict[str, Any] = {
        "_args": list(operation.parts),
        "_out_message_name": f"{operation.name}Response",
    }
    if operation.result is not None:
        options["_out_variable_name"], result = operation.result
        options["_returns"] = unqualified(result)
    return rpc(*(unqualified(part) for part in operation.parts.values()), **options)(placeholder)
