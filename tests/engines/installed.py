"""Which engines of scikit-sparse are installed: UMFPACK and KLU come with 0.5, CHOLMOD with all versions."""

from importlib import import_module


def _installed(engine):
    try:
        import_module(f"sksparse.{engine}")
    except ImportError:
        return False
    return True


GENERAL = [engine for engine in ("umfpack", "klu") if _installed(engine)]
SUITESPARSE = [*GENERAL, *(["cholmod"] if _installed("cholmod") else [])]
