"""A metadata server (AMGA): collections, typed attributes, queries; the metadata right."""
