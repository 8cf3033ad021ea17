#!/usr/bin/env python3
"""The pages of the kept studies, and what a chart leaves out."""
import json
import math
import pathlib
import unittest

from study_page import over, study_page
from svg_chart import Chart, Series, to_svg

STUDIES = pathlib.Path(__file__).resolve().parent.parent / "docs" / "study"


class StudyPageTest(unittest.TestCase):
    def test_kept_pages_are_those_of_their_reports(self):
        for name in ("quick", "twins"):
            report = json.loads((STUDIES / f"{name}.json").read_text("utf-8"))
            page = study_page(report)
            self.assertEqual(page, (STUDIES / f"{name}.html").read_text("utf-8"))
            self.assertNotIn("http", page)  # nothing is fetched
        self.assertIn("polynomials in place", page)
        self.assertIn("Sweep: ", page)

    def test_reports_of_what_there_is_so_far(self):
        report = json.loads((STUDIES / "quick.json").read_text("utf-8"))
        for runs in (0, 1, 4):
            self.assertTrue(study_page({**report, "runs": report["runs"][:runs]}).endswith("</html>\n"))
        diverged = {key: report["runs"][0][key] for key in ("variant", "group", "seed", "curve")}
        diverged["diverged"] = "step 3"
        self.assertIn("–", study_page({**report, "runs": [diverged]}))

    def test_charts_draw_what_is_finite_and_escape_names(self):
        chart = Chart("a < b", "x", "y", log_x=True)
        chart.series.append(Series("one & two", [(1, 2), (0, 3), (100, math.nan), (1000, 5)], line=False))
        svg = to_svg(chart)
        self.assertIn("a &lt; b", svg)
        self.assertIn("one &amp; two", svg)
        self.assertNotIn("nan", svg)
        self.assertEqual(svg.count("<circle"), 2)
        self.assertIn("</svg>", to_svg(Chart("empty", "x", "y")))

    def test_statistics_are_of_finite_values(self):
        self.assertEqual(over([1, math.nan, 3]).mean, 2)
        self.assertAlmostEqual(over([1, math.inf, 3]).deviation, math.sqrt(2))
        self.assertTrue(math.isnan(over([]).mean) and math.isnan(over([1]).deviation))


unittest.main()
