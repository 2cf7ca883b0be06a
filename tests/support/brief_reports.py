"""The operator, but no report of a progress waits longer than DELAY: `python brief_reports.py run …`."""

from datetime import timedelta

from userstorage_operator.cli import main
from userstorage_operator.status import requeue

DELAY = timedelta(seconds=2)

if __name__ == "__main__":
    requeue.REPORT_DELAY = requeue.REPORT_DELAY_IN_BURST = DELAY
    main()
