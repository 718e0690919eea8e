"""How a file comes to be: the saga over names, keys and metadata, and its journal."""
