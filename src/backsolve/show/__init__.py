"""A System, a Graph, an OperatorMatrix or a Plan, to be looked at: a page, a picture, DOT, LaTeX."""

from .dot import to_dot as to_dot
from .output import inline as inline
from .output import save as save
from .output import show as show
from .output import spy as spy
from .page import page as page
from .tex import to_latex as to_latex
