"""The portraits study's main numbers, laid out for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from examples.portraits.networks import NETWORKS

_BARS = {
    "retrieval_over_before": "part retrieval, after over before",
    "retrieval_over_best_peer": "over the best peer without pairs",
    "retrieval_over_position": "over positions alone",
    "consistency_before_over_after": "colour consistency, before over after",
    "color_retrieval_over_before": "part retrieval by colour, after over before",
    "color_retrieval_over_position": "over positions alone",
}


def summary_table(summary: Mapping[str, Any]) -> str:
    """Lay the numbers out.

    Parameters
    ----------
    summary : mapping
        The study's summary.

    Returns
    -------
    str
        Several lines.
    """
    data, pair = summary["data"], summary["pair"]
    parts = data["parts"]
    sides = [
        f"{NETWORKS[name].title} ({layer}, {summary['networks'][name]['layers'][layer]} features, "
        f"stride {summary['networks'][name]['stride']})"
        for name, layer in pair.items()
    ]
    lines = [
        f"{sides[0]} <-> {sides[1]}",
        f"Patches of {data['n_queried_images']} held-out portraits; {data['n_landmarks']} "
        f"landmarks in {data['n_landmark_images']} others.",
        "Of the five nearest patches of the other network, in other portraits, how many show the "
        "same part?",
        "",
        f"{'':<38}{'mean':>6}" + "".join(f"{part:>11}" for part in parts),
    ]
    rows = {one["title"]: one for one in summary["retrieval"].values()}
    rows |= {
        "control: positions alone": summary["controls"]["position"],
        "control: untrained, aligned": summary["controls"]["untrained"],
        "chance": summary["controls"]["chance"],
    }
    rows |= {
        f"within the {NETWORKS[name].title.lower()}": one for name, one in summary["within"].items()
    }
    for title, one in rows.items():
        values = "".join(f"{one['per_part'][part]:>11.2f}" for part in parts)
        lines.append(f"{title:<38}{one['mean']:>6.2f}{values}")
    lines += ["", f"{'colours':<38}{'consistency':>12}{'part retrieval by colour':>26}"]
    for key, title in {
        "before": "before",
        "after": "after",
        "position": "control: positions alone",
    }.items():
        one = summary["colors"][key]
        lines.append(f"{title:<38}{one['consistency']:>12.2f}{one['retrieval']['mean']:>26.2f}")
    lines += [""]
    for key, title in _BARS.items():
        bar = summary["bars"][key]
        lines.append(f"{title:<46}{bar['value']:>6.2f}  (asked for: {bar['at_least']:.2f})")
    return "\n".join(lines)
