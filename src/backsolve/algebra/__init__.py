"""What the elements of a matrix are: their arithmetic, semirings, array libraries, spaces, memory."""

from backsolve.algebra.elements import AlgebraError as AlgebraError
from backsolve.algebra.elements import Boolean as Boolean
from backsolve.algebra.elements import Counting as Counting
from backsolve.algebra.elements import LogSumExp as LogSumExp
from backsolve.algebra.elements import MaxTimes as MaxTimes
from backsolve.algebra.elements import MinPlus as MinPlus
from backsolve.algebra.elements import SingularError as SingularError
