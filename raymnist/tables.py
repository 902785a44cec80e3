"""How scores are laid out for a reader: which of them, in which order, in how many digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from raymnist.metrics import GENERATOR_METRICS

CLUSTERED = ["silhouette", "ari", "nmi", "ami", "acc"]  # of an encoder
COMPARED = ["fid", "precision", "recall", "mixing"]  # of a generator; the scores of generators have more


def candidates(table: pd.DataFrame, criterion: str) -> pd.DataFrame:
    """List the reducers and clusterers of real codes, that with the highest criterion first.

    Columns: reducer, clusterer, n (how many runs of the encoder), and the mean of each score over them, with its
    standard deviation under a name that ends in `_sd`. Labels take no part in the order.
    """
    codes = table[(table["population"] == "real") & (table["features"] == "code") & (table["clusterer"] != "")]
    shown = ["silhouette", "agreement", "clusters", "noise_share", *CLUSTERED[1:]]
    lines = []
    for (reducer, clusterer), rows in codes.groupby(["reducer", "clusterer"], sort=False):
        done = rows[(rows["encoder"] != "") & (rows["metric"] != "")]
        line = {"reducer": reducer, "clusterer": clusterer, "n": done["encoder"].nunique()}
        for name in shown:
            values = rows.loc[rows["metric"] == name, "value"]
            line |= {name: values.mean(), f"{name}_sd": values.std(ddof=1)} if len(values) else {}
        lines.append(line)
    found = pd.DataFrame(lines).dropna(axis="columns", how="all")
    return found.sort_values(criterion, ascending=False, ignore_index=True) if criterion in found else found


def scores_of(table: pd.DataFrame, runs: Sequence[str], criterion: str | None = None) -> dict[str, float]:
    """Find the leaderboard's scores of an encoder's codes of the real images, or of a generator's fakes.

    runs: the trials of one configuration; of several that are scored the mean is given, and under a name that ends in
    `_sd` the standard deviation of a single one. criterion: what chooses among reducers and clusterers; the first ones
    without.
    """
    if table.empty:
        return {}
    codes = clustered_by(table, runs, criterion)
    found = []
    for trial_id in runs:
        real = codes[codes["encoder"] == trial_id]
        fake = table[(table["trial_id"] == trial_id) & table["population"].isin(["fake", "both"]) & _headline(table)]
        found.append(_first(real, CLUSTERED) | _first(fake, COMPARED))
    scored = pd.DataFrame([scores for scores in found if scores])
    means = {str(name): float(value) for name, value in scored.mean().items()}
    spreads = scored.std(ddof=1).items() if len(scored) > 1 else []
    return means | {f"{name}_sd": float(spread) for name, spread in spreads}


def with_spread(board: pd.DataFrame) -> pd.DataFrame:
    """Write each column that has a spread, under its name and `_sd`, as text with both."""
    shown = board.drop(columns=[name for name in board if str(name).endswith("_sd")])
    for name in shown.columns:
        if f"{name}_sd" in board:
            spreads = board[f"{name}_sd"]
            shown[name] = [
                short(value) if pd.isna(spread) else f"{short(value)} ± {spread:.2g}"
                for value, spread in zip(board[name], spreads, strict=True)
            ]
    return shown


def scored_on(table: pd.DataFrame, runs: Sequence[str], criterion: str | None = None) -> str:
    """Say on which features a generator's scores are, or by which clustering an encoder's; and of how many images.

    Empty for none.
    """
    if table.empty:
        return ""
    scored = table[table["trial_id"].isin(runs) & table["metric"].isin(GENERATOR_METRICS)]
    if len(scored):
        return f"{scored['features'].iloc[0]}, n {scored['n_images'].iloc[0]}"
    codes = clustered_by(table, runs, criterion)
    return "{reducer}, {clusterer}, n {n_images}".format(**codes.iloc[0]) if len(codes) else ""


def clustered_by(table: pd.DataFrame, runs: Sequence[str], criterion: str | None) -> pd.DataFrame:
    """Find the rows of an encoder's runs, of real codes in the one clustering that stands on the leaderboard."""
    codes = table[table["encoder"].isin(runs) & (table["population"] == "real") & (table["clusterer"] != "")]
    if codes.empty:
        return codes
    chosen = (candidates(table, criterion) if criterion else codes).head(1)
    return codes.merge(chosen[["reducer", "clusterer"]])


def floor_of(table: pd.DataFrame) -> dict[str, float]:
    """Find what real images reach in the place of fakes, mixing in the space in which the generators have theirs."""
    mixing = table[(table["metric"] == "mixing") & (table["population"] == "both") & _headline(table)]
    real = table[(table["population"] == "real") & _headline(table)]
    for column in ("features", "clusterer") if len(mixing) else []:
        real = real[(real[column] == mixing[column].iloc[0]) | (real["metric"] != "mixing")]
    return _first(real, COMPARED)


def _headline(table: pd.DataFrame) -> pd.Series:
    """Tell which rows may stand on the leaderboard: mixing is that of features as they are, which no map distorts."""
    return (table["metric"] != "mixing") | (table["reducer"] == "none")


def _first(rows: pd.DataFrame, metrics: list[str]) -> dict[str, float]:
    """Take the first value of each metric that is there."""
    found = rows.drop_duplicates("metric").set_index("metric")["value"]
    return {name: found[name] for name in metrics if name in found}


def markdown(title: str, board: pd.DataFrame) -> str:
    """Write a leaderboard as Markdown."""
    board = with_spread(board)
    lines = [f"# {title}", "", f"| {' | '.join(board.columns)} |", "|" + " --- |" * len(board.columns)]
    lines += [f"| {' | '.join(short(cell) for cell in row)} |" for row in board.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def score_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Lay the rows of generators' scores out: a line per metric, a column per generator and one for the floor.

    A cell has the value and its 95 % interval.
    """
    scored = rows[rows["metric"].isin(GENERATOR_METRICS)]
    columns: dict[str, dict[str, str]] = {}
    for row in scored.to_dict("records"):
        cell = f"{short(row['value'])} [{short(row['ci_low'])}, {short(row['ci_high'])}]"
        columns.setdefault(row["trial_id"] or "floor (real)", {})[row["metric"]] = cell
    names = [name for name in GENERATOR_METRICS if name in set(scored["metric"])]
    better = {"min": "lower", "max": "higher"}
    return pd.DataFrame(
        {
            "metric": names,
            "better": [GENERATOR_METRICS[name].best or better[GENERATOR_METRICS[name].direction] for name in names],
            **{title: [cells.get(name, "") for name in names] for title, cells in columns.items()},
        }
    )


def short(value: Any) -> str:
    """Write a cell of a table: a number in four digits, nothing for what is not known."""
    if isinstance(value, list):
        return str(value).replace(" ", "")
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
