"""Charts of what benchmarks measure, as SVG: bars, and lines over logarithmic axes."""

import math
from collections.abc import Mapping, Sequence

OURS, OTHERS = "#2a6f97", "#a9b4bf"


def bars(groups: Mapping[str, Mapping[str, float]], form: str = "{:.0f}") -> str:
    """Return a group of bars for each title; what is a limit or an anchor is grey."""
    rows: list[str] = []
    y = 20
    for title, values in groups.items():
        rows.append(f'<text x="0" y="{y}" font-weight="bold">{title}</text>')
        top = max(values.values())
        for label, value in values.items():
            y += 24
            width = 330 * value / top
            colour = OTHERS if label.startswith(("limit", "anchor")) else OURS
            rows.append(f'<text x="0" y="{y + 12}">{label}</text>')
            rows.append(f'<rect x="240" y="{y}" width="{width:.0f}" height="16" fill="{colour}"/>')
            rows.append(f'<text x="{246 + width:.0f}" y="{y + 12}">{form.format(value)}</text>')
        y += 44
    return _svg(rows, y)


def lines(
    title: str, labels: Sequence[str], values: Mapping[int, Sequence[float]], form: str = "{:.0f}"
) -> str:
    """Return a line for each label over the keys of `values`."""
    left, right, top, bottom = 60, 600, 60, 300
    highest = max(map(max, values.values()))
    lowest = min(map(min, values.values())) / 1.2
    first, last = min(values), max(values)

    def x(key: float) -> float:
        return left + (right - left) * math.log(key / first) / math.log(last / first)

    def y(value: float) -> float:
        return bottom - (bottom - top) * math.log(value / lowest) / math.log(highest / lowest)

    rows = [f'<text x="0" y="16" font-weight="bold">{title}</text>']
    for number, (label, colour) in enumerate(zip(labels, (OURS, OTHERS), strict=True)):
        points = [(x(key), y(each[number]), each[number]) for key, each in values.items()]
        joined = " ".join(f"{across:.0f},{up:.0f}" for across, up, _ in points)
        rows.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        rows += [
            f'<text x="{a - 8:.0f}" y="{u - 6:.0f}">{form.format(value)}</text>' for a, u, value in points
        ]
        rows.append(f'<text x="{240 * number}" y="36" fill="{colour}">{label}</text>')
    rows += [f'<text x="{x(key) - 8:.0f}" y="{bottom + 24}">{key}</text>' for key in values]
    return _svg(rows, bottom + 34)


def _svg(rows: Sequence[str], height: int) -> str:
    name = "http://www.w3.org/2000/svg"
    head = f'<svg xmlns="{name}" viewBox="0 0 640 {height}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, *rows, "</svg>"]) + "\n"
