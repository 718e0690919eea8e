"""spyne made to speak rpc contracts that gSOAP clients read."""
