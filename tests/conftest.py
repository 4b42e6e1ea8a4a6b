"""Hypothesis profiles: "ci", its own, gives the same examples in every run; "fresh" others in each."""

from hypothesis import settings

settings.register_profile("fresh", settings.get_profile("ci"), derandomize=False, print_blob=True)
