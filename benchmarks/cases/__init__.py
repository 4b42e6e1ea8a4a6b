"""One file a case, found by its name. A case has a `TITLE` and `measure(runner) -> Section`."""
