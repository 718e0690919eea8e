"""The SOAP edge of SRM v2.2: types, service, WSDL, one file an operation."""
