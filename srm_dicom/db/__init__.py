"""The peewee base: opening, transactions, binding of models, migrations."""
