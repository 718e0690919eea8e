"""The composition root: configuration in, running services out.

Each role is one process and one builder. Outer roles (`outer`: front, transfer) are built from
``srm-dicom.toml`` and never open the inner zone's secrets or ``plugins.d``; inner roles (`inner`: stager,
registrar) do; a catalogue (`catalogues`) has a file of its own, because it may stand on somebody else's
machine. `processes` runs a role and imports nothing of the others.
"""
