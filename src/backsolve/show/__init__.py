"""A System, a Graph, an OperatorMatrix or a Plan, to be looked at: a page, a picture, DOT, LaTeX."""

from backsolve.display import VIEWERS
from backsolve.show.dot import to_dot as to_dot
from backsolve.show.output import inline as inline
from backsolve.show.output import save as save
from backsolve.show.output import show as show
from backsolve.show.output import spy as spy
from backsolve.show.page import page as page
from backsolve.show.tex import to_latex as to_latex

VIEWERS |= {"show": show, "save": save, "spy": spy, "inline": inline, "to_dot": to_dot, "to_latex": to_latex}
