"""The documentation, `make docs`; a package so that tests can import what its pages are made with."""
