"""The doors that move bytes: GridFTP and HTTPS over one scratch directory."""
