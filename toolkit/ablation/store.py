"""The cells of a study in Optuna's storage: each is claimed by one worker, which sends a heartbeat."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.ablation.cells import Cell, first_line
from toolkit.ablation.plan import Plan, Search, plan_record
from toolkit.runtime import InputError, require
from toolkit.text import check_record, parse_json

if TYPE_CHECKING:
    import optuna

HEARTBEAT, GRACE = 10, 40  # seconds
RETRIES = 5  # of a cell whose worker dies, within one run of the study
CRASHES = 3  # unexpected errors of a cell, after which it counts as failed


def own_database(folder: Path) -> str:
    """SQLAlchemy address of the SQLite file in a study's folder."""
    return f"sqlite:///{(folder / 'study.db').absolute()}"


def _check_tables(url: str) -> None:
    """InputError for a file, as of a stranger's study, that is the database of another program: Optuna would
    write its tables into it. A server's database is the user's choice."""
    import sqlalchemy

    if not url.startswith("sqlite"):
        return
    engine = sqlalchemy.create_engine(url)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables and not tables >= {"studies", "trials", "version_info"}:
        raise InputError(
            f"{url.split('@')[-1]} is the database of another program: its tables are not those of a study; "
            "name another one"
        )


class Store:
    """The store of a study: its cells, which worker runs them, and their results.

    Args:
        plan: the study.
        url: any SQLAlchemy address, such as sqlite:////folder/study.db.
        worker: number of this worker; samplers of different workers draw differently.

    Raises:
        InputError: the database cannot be used, or the study began with another plan.
    """

    def __init__(self, plan: Plan, url: str, worker: int = 0):
        self.optuna = require("optuna", "search")
        self.optuna.logging.set_verbosity(self.optuna.logging.ERROR)
        self.plan, self.url = plan, url
        with quiet_optuna(), self.reachable(RuntimeError):
            _check_tables(url)
            callback = self.optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
            self.storage = self.optuna.storages.RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=callback,
            )
            self.study = self.optuna.create_study(
                study_name=plan.name,
                storage=self.storage,
                direction="maximize",
                load_if_exists=True,
                pruner=self.optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0),
            )
            self._claims()
            begun = len(self.study.get_trials(deepcopy=False))
            # repeatable in a new study, but different for other workers and after a resumption
            sequence = np.random.SeedSequence([plan.seeds[0] % 2**32, worker, begun])
            self.seed = int(sequence.generate_state(1)[0])
            self.study.sampler = _sampler(self.optuna, plan.search, self.seed)
        self._same_plan()

    @contextmanager
    def reachable(self, *others: type[Exception]) -> Iterator[None]:
        """Errors of the database or its driver inside the block, and `others`, as InputError."""
        import sqlalchemy

        kind, address = self.url.split(":")[0], self.url.split("@")[-1]  # without the password
        pruned = self.optuna.TrialPruned  # no error, but how Optuna ends a trial
        try:
            yield
        except ImportError as error:
            module = str(getattr(error.__cause__, "name", None) or error)
            package = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
            raise InputError(
                f"a {kind} database needs the Python package {module}, which is not installed: "
                f'run pip install "{package.get(module, module)}"'
            ) from None
        except pruned:
            raise
        except (sqlalchemy.exc.SQLAlchemyError, self.optuna.exceptions.OptunaError, *others) as error:
            cause = error.__cause__ if error.__cause__ is not None else error
            line = first_line(cause)
            remedy = (
                "make room on its disk, and run the study again"
                if any(word in line for word in ("is full", "disk I/O error"))
                else "expected an address such as sqlite:////folder/study.db or postgresql://user@host/name, "
                "of a database that can be written"
            )
            raise InputError(f"the database {address} cannot be used ({line}): {remedy}") from None

    def _same_plan(self) -> None:
        text = json.dumps(plan_record(self.plan), sort_keys=True)
        stored = self.study.user_attrs.get("plan")
        if stored is None:
            self.study.set_user_attr("plan", text)
        elif stored != text:
            source = f"the plan of {self.plan.name} in the database"
            now = json.loads(text)
            then = check_record(parse_json(str(stored), source), dict[str, Any], source, "name another study")
            changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
            raise InputError(
                f"the study {self.plan.name} began with other values of {', '.join(changed)}: restore them, "
                "or give the study a new name"
            )

    def _claims(self) -> None:
        """Table of claims. Optuna's change of a state is not atomic on SQLite; inserting a unique row is."""
        import sqlalchemy

        self.claimed = sqlalchemy.Table(
            "toolkit_claims",
            sqlalchemy.MetaData(),
            sqlalchemy.Column("trial_id", sqlalchemy.Integer, primary_key=True, autoincrement=False),
        )
        try:
            self.claimed.create(self.storage.engine, checkfirst=True)
        except sqlalchemy.exc.OperationalError:  # another worker was faster
            self.claimed.create(self.storage.engine, checkfirst=True)

    def _counts(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial represents its cell: not if its worker died or it was a duplicate."""
        states = self.optuna.trial.TrialState
        return trial.state not in (states.FAIL, states.PRUNED) or "fault" in trial.user_attrs

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that are neither waiting nor running nor finished."""
        trials = self.study.get_trials(deepcopy=False)
        entered = {trial.user_attrs.get("key") for trial in trials if self._counts(trial)}
        return [cell for cell in cells if cell.key not in entered]

    def enter(self, cells: Sequence[Cell]) -> None:
        """Add the cells that are missing."""
        distribution = self.optuna.distributions.CategoricalDistribution
        for cell in self.missing(cells):
            params = {name: json.dumps(level) for name, level in cell.levels.items()}
            choices = {name: tuple(map(json.dumps, levels)) for name, levels in self.plan.factors.items()}
            self.study.add_trial(
                self.optuna.trial.create_trial(
                    state=self.optuna.trial.TrialState.WAITING,
                    params=params,
                    distributions={name: distribution(values) for name, values in choices.items()},
                    user_attrs={
                        "key": cell.key, "levels": cell.levels, "matching": cell.matching, "seed": cell.seed
                    },
                )
            )  # fmt: skip

    def take(self) -> optuna.trial.FrozenTrial | None:
        """Claim the next waiting cell; None if there is none. Cells of dead workers wait again."""
        import sqlalchemy

        states = self.optuna.trial.TrialState
        self.free_dead()
        trials: list[optuna.trial.FrozenTrial] = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state != states.WAITING:
                continue
            try:
                self.storage.record_heartbeat(trial._trial_id)
                if not self.storage.set_trial_state_values(trial._trial_id, states.RUNNING):
                    continue
                with self.storage.engine.begin() as connection:
                    connection.execute(self.claimed.insert().values(trial_id=trial._trial_id))
            except (sqlalchemy.exc.IntegrityError, self.optuna.exceptions.UpdateFinishedTrialError):
                continue  # another worker was faster
            if self._is_first(trial):
                self.storage.set_trial_user_attr(trial._trial_id, "worker", worker_of(trial))
                return trial
            self.storage.set_trial_state_values(trial._trial_id, states.PRUNED)
        return None

    def free_dead(self) -> None:
        """Cells whose worker is dead wait again: a worker of this machine whose process is gone, at once, and
        any other that has sent no heartbeat for GRACE seconds."""
        with quiet_optuna():
            self.optuna.storages.fail_stale_trials(self.study)
        running = (self.optuna.trial.TrialState.RUNNING,)
        for trial in self.study.get_trials(deepcopy=False, states=running):
            if is_dead(trial.user_attrs.get("worker", ""), trial):
                self.give_back(trial)

    def give_back(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> None:
        """The cell of a trial that did not end waits again."""
        try:
            self.storage.set_trial_state_values(trial._trial_id, self.optuna.trial.TrialState.FAIL)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            return  # another worker has done it
        enter_again = self.storage.get_heartbeat_stale_trial_callback()
        with quiet_optuna():
            enter_again(self.study, self.storage.get_trial(trial._trial_id))

    def _is_first(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Two workers that begin a study together may enter a cell twice: the first entry counts."""
        same = (
            other.number
            for other in self.study.get_trials(deepcopy=False)
            if other.user_attrs.get("key") == trial.user_attrs["key"] and self._counts(other)
        )
        return bool(min(same) == trial.number)

    def finish(self, trial: optuna.trial.FrozenTrial, answer: dict[str, Any]) -> None:
        """Keep the result of a cell: its scores, or the fault or crash that ended it."""
        states = self.optuna.trial.TrialState
        try:
            for name, value in answer.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
            if "score" in answer:
                self.storage.set_trial_state_values(trial._trial_id, states.COMPLETE, [answer["score"]])
            else:
                self.storage.set_trial_state_values(trial._trial_id, states.FAIL)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            pass  # this worker was considered dead, and another one has taken over

    def crash(self, key: str, error: Exception) -> dict[str, str]:
        """The entry for an unexpected error: a "crash" lets the next run try the cell again; the CRASHES-th
        one is the cell's "fault"."""
        same = [t for t in self.study.get_trials(deepcopy=False) if t.user_attrs.get("key") == key]
        before = sum("crash" in trial.user_attrs for trial in same)
        return {"crash" if before + 1 < CRASHES else "fault": f"{type(error).__name__}: {first_line(error)}"}

    def unfinished(self) -> bool:
        """Whether cells are waiting or running."""
        states = self.optuna.trial.TrialState
        open_states = (states.WAITING, states.RUNNING)
        return bool(self.study.get_trials(deepcopy=False, states=open_states))

    @contextmanager
    def heartbeat(self, trial: optuna.trial.FrozenTrial | optuna.Trial) -> Iterator[None]:
        """Tell the other workers that this one is alive."""
        over = threading.Event()

        def beat() -> None:
            pause = HEARTBEAT
            while not over.wait(pause):
                try:
                    self.storage.record_heartbeat(trial._trial_id)
                    pause = HEARTBEAT
                except Exception:  # a database that is locked or unreachable for a moment
                    pause = 1

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@cache
def _here() -> str:
    """This machine since its last start, and the part of it whose processes this one sees; "" where the
    system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(number: int) -> str:
    """A process of this machine, told from a later one of the same number; "" where it is gone."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, start = fields[0], fields[19]
    return "" if state in "ZX" else f"{number} {start}"  # ended, though its parent has not asked yet


def worker_of(trial: optuna.trial.FrozenTrial | optuna.Trial) -> str:
    """Who runs a trial: this process, as `is_dead` reads it. With the trial's number, as the entry of a dead
    worker is copied to the trial that follows."""
    return f"{_here()}/{_process(os.getpid())}/{trial.number}"


def is_dead(worker: str, trial: optuna.trial.FrozenTrial) -> bool:
    """Whether the worker of a trial was a process of this machine that is gone; False where that cannot be
    told."""
    here, _, rest = worker.partition("/")
    process, _, number = rest.partition("/")
    if not here or here != _here() or number != str(trial.number):
        return False
    return _process(int(process.split()[0])) != process


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's warnings that heartbeats are experimental."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _sampler(optuna: Any, search: Search | None, seed: int) -> Any:
    if search is None or search.sampler == "random":
        return optuna.samplers.RandomSampler(seed)
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(constraints_func=over_budget, population_size=10, seed=seed)
    return optuna.samplers.TPESampler(
        constraints_func=over_budget, n_startup_trials=5, multivariate=True, seed=seed
    )


def over_budget(trial: optuna.trial.FrozenTrial) -> Sequence[float]:
    """Optuna's constraints: relative excess over each limit, above 0 for a network that costs too much."""
    excess: Sequence[float] = trial.user_attrs.get("over", [0.0])
    return excess
