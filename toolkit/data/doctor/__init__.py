"""The dataset doctor: fourteen faults that ruin a training, found in the label columns and in the pictures.

`examine` looks and changes nothing; `fix` writes a mended copy for what can be mended without guessing;
`write_page` and `findings_grid` show the findings to people. A Dataset may hold bad values here (read with
`faults="keep"`): boxes of any size and place, classes out of range, recorded sizes that are wrong.
"""

from toolkit.data.doctor.findings import FAULTS, NEED_PICTURES, NOWHERE, Finding, Report
from toolkit.data.doctor.mend import fix
from toolkit.data.doctor.page import findings_grid, write_page
from toolkit.data.doctor.report import examine

__all__ = [
    "FAULTS",
    "NEED_PICTURES",
    "NOWHERE",
    "Finding",
    "Report",
    "examine",
    "findings_grid",
    "fix",
    "write_page",
]
