"""`bitat report RUN`: of a run that is over, that goes on, or that was interrupted."""

from bitat_tf import progress, report, run_directory
from bitat_tf.experiment import Run


def show(run: Run) -> None:
    """Write a run's report and print where it is; of one that is not over, how far it is too.

    A run that goes on is not touched: the report of what there is so far lies in a directory of
    its own, which goes when the run is over.

    Args:
        run: opened.

    Raises:
        ValueError: when its progress.json is damaged.
        OSError: when the directory cannot be written.
    """
    now = progress.read(run.folder)
    if now is None:
        print(f"Report: {run.report()}")
        return
    text = progress.describe(now, going_on=run_directory.is_locked(run.folder))
    folder = run_directory.so_far_path(run.folder)
    folder.mkdir(exist_ok=True)
    lines = "\n".join(f"- {line}" for line in text.splitlines())
    note = f"**This run is not over.** What it had when this was written:\n\n{lines}"
    try:
        path = report.write(progress.result_so_far(run.result, now), folder, note)
    except FileNotFoundError:
        if progress.read(run.folder) is not None:
            raise
    if progress.read(run.folder) is None:  # it came to its end meanwhile
        progress.clear(run.folder)
        print(f"Report: {Run.open(run.folder).report()}")
        return
    print(text)
    print(f"Report so far: {path}")
