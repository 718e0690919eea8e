"""SRM v1.1 beside v2.2: fourteen operations over the same broker, for clients that never learned more."""
