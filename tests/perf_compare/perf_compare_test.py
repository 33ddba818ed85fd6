# SPDX-License-Identifier: Apache-2.0
"""perf/compare without drivers: figures, ratios, tables, pictures, the choice of peers, running and ending a process."""

import json
import sys
import time
import unittest
import xml.dom.minidom
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "perf/compare"))

import launch  # noqa: E402
import peers  # noqa: E402
import plots  # noqa: E402
import tables  # noqa: E402
from results import Results, add_lines, bus_factor, geometric_mean  # noqa: E402

GROUP = (2, "rewritten")


def canned():
    return json.loads((HERE / "canned.json").read_text())


class Figures(unittest.TestCase):
    def test_a_figure_is_the_median_over_rounds_with_its_extremes(self):
        figure = Results(canned()).figure("tutti", GROUP, "all_reduce", 8)
        self.assertEqual((figure.median, figure.low, figure.high), (0.2, 0.1, 0.4))

    def test_the_best_variant_counts(self):
        figure = Results(canned()).figure("floor_staged", GROUP, "all_reduce", 1 << 20)
        self.assertEqual((figure.median, figure.variant), (125, "256K/nt"))

    def test_wrong_elements_make_a_cell_void(self):
        view = Results(canned())
        self.assertIsNone(view.figure("fast", GROUP, "all_reduce", 1 << 20))
        self.assertEqual(view.ratio("tutti", GROUP, "all_reduce", 1 << 20).best.peer, "slow")

    def test_a_ratio_above_one_means_faster_and_is_taken_round_by_round(self):
        ratio = Results(canned()).ratio("tutti", GROUP, "all_reduce", 8)
        self.assertEqual(ratio.best.peer, "fast")
        self.assertAlmostEqual(ratio.value, 2.0)
        self.assertAlmostEqual(ratio.low, 1.0)  # round 3
        self.assertAlmostEqual(ratio.high, 3.0)  # round 2

    def test_a_round_that_one_side_lacks_is_left_out(self):
        ratio = Results(canned()).ratio("tutti", GROUP, "all_reduce", 1 << 20)
        self.assertAlmostEqual(ratio.value, (100 / 200 + 100 / 190) / 2)
        self.assertAlmostEqual(ratio.low, 0.5)
        self.assertAlmostEqual(ratio.high, 100 / 190)

    def test_floors_are_not_peers(self):
        self.assertEqual({r.best.peer for r in Results(canned()).ratios("tutti", GROUP).values()}, {"fast", "slow"})

    def test_without_figures_of_the_library_the_first_peer_is_the_subject(self):
        result = canned()
        result["cells"] = [c for c in result["cells"] if c["peer"] != "tutti"]
        self.assertEqual(Results(result).subjects(), ["fast"])

    def test_bus_bandwidth_and_mean(self):
        self.assertEqual([bus_factor(c, 4) for c in ("all_reduce", "broadcast", "alltoall")], [1.5, 1.0, 0.75])
        self.assertAlmostEqual(geometric_mean([0.5, 2, 8]), 2.0)

    def test_lines_of_a_driver_are_collected(self):
        result = canned()
        cell = {"collective": "gather", "asked": 8, "bytes": 16, "variant": "", "min_us": 1.0, "wrong": 0}
        for number, time_us in enumerate((3.0, 1.0, 2.0), 1):
            add_lines(result, [{"version": "3.1"}, cell | {"median_us": time_us}], "fast", 4, "rewritten", number)
        add_lines(result, [{"collective": "scatter", "asked": 8, "bytes": 16, "unsupported": "no"}], "fast", 4, "rewritten", 1)
        view = Results(result)
        self.assertEqual(view.figure("fast", (4, "rewritten"), "gather", 8).median, 2.0)
        self.assertEqual(view.notes["fast", 4, "rewritten", "scatter", 8], "no")
        self.assertEqual(result["peers"][1]["version"], "3.1")


class Rendering(unittest.TestCase):
    def test_the_report_says_what_is_there_and_what_is_not(self):
        text = tables.markdown(canned(), ["picture.svg"])
        for part in ("Example CPU", "0123456789ab", "perf/compare/run --rounds 3", "![picture.svg](picture.svg)",
                     "2.00x (1.00..3.00) fast", "not installed: libabsent-dev", "`fast`: 7 wrong elements",
                     "`slow`: no such operation", "`slow` failed, 2 ranks", "0.20 = 1.25x", "200.0 = 1.60x",
                     "| 1.01x | 1 | 1 | 0.51x all_reduce 1 MiB (`slow`) |"):
            self.assertIn(part, text)

    def test_every_row_of_a_table_has_as_many_cells_as_its_header(self):
        width = None
        for line in tables.markdown(canned()).splitlines():
            width = (width or line.count("|")) if line.startswith("|") else None
            if width:
                self.assertEqual(line.count("|"), width, line)

    def test_pictures_are_well_formed_and_complete(self):
        for picture in (plots.heat_map(canned()), plots.lines(canned(), GROUP)):
            xml.dom.minidom.parseString(picture)
            self.assertIn("commit 0123456789ab", picture)
        self.assertIn(">2.00<", plots.heat_map(canned()))
        self.assertIn("fast 8 B: 0.40 us", plots.lines(canned(), GROUP))

    def test_pictures_and_report_of_an_empty_result(self):
        empty = canned() | {"cells": [], "failures": []}
        xml.dom.minidom.parseString(plots.heat_map(empty))
        self.assertIn("no figures of the library", tables.markdown(empty | {"peers": empty["peers"][1:]}))

    def test_colours_are_neutral_at_one_and_saturate(self):
        self.assertEqual(plots.heat_colour(1)[0], "#ffffff")
        self.assertEqual(plots.heat_colour(4)[0], plots.heat_colour(40)[0])
        self.assertEqual(plots.heat_colour(0.5)[0], plots.heat_colour(0.01)[0])

    def test_sizes_and_times_read_well(self):
        self.assertEqual([tables.size_text(s) for s in (8, 1 << 10, 256 << 20, 1 << 30)], ["8 B", "1 KiB", "256 MiB", "1 GiB"])
        self.assertEqual([tables.time_text(t) for t in (0.155, 12.34, 87577.2)], ["0.15", "12.3", "87,577"])


class ChoiceOfPeers(unittest.TestCase):
    def test_names_groups_and_exclusions(self):
        chosen = [p.name for p in peers.select("floors,tutti,-floor_memcpy")]
        self.assertEqual(chosen, ["tutti", "floor_lines", "floor_staged", "floor_mapped"])
        self.assertLess(len(peers.select("default")), len(peers.select("all")))
        with self.assertRaises(KeyError):
            peers.select("nobody")

    def test_ranks_are_filled_in(self):
        argv = peers.command(peers.by_name("openmpi"), "driver", 4, ["--sizes", "8"])
        self.assertEqual(argv[argv.index("-np") + 1], "4")
        self.assertEqual(argv[-2:], ["--sizes", "8"])


ECHO = """
import sys
print('chatter')
print('{"version": "1"}', flush=True)
for line in sys.stdin:
    if line.strip() == "die":
        sys.exit("no memory")
    if line.strip() == "stall":
        import time
        time.sleep(60)
    print('{"asked": "%s"}' % line.strip())
    print('{"over": true}', flush=True)
"""


class Launching(unittest.TestCase):
    def driver(self, script=ECHO, stall=20):
        driver = launch.Driver([sys.executable, "-c", script], {}, stall)
        self.addCleanup(driver.end)
        return driver

    def test_each_request_is_answered_and_chatter_is_ignored(self):
        driver = self.driver()
        self.assertEqual(driver.greeting, [{"version": "1"}])
        self.assertEqual([driver.ask(r) for r in ("a", "b")], [[{"asked": "a"}], [{"asked": "b"}]])
        driver.end()
        self.assertEqual((driver.failure, driver.answered), ("", 2))

    def test_a_failure_says_why_and_nothing_is_answered_after_it(self):
        driver = self.driver()
        driver.ask("a")
        self.assertEqual(driver.ask("die"), [])
        self.assertEqual((driver.failure, driver.answered), ("exit status 1: no memory", 1))
        self.assertEqual(driver.ask("a"), [])

    def test_a_failure_at_the_end_is_told(self):
        driver = self.driver(ECHO + "sys.exit('leaks')")
        driver.ask("a")
        driver.end()
        self.assertEqual(driver.failure, "exit status 1: leaks")

    def test_one_that_ends_without_a_word_has_failed(self):
        self.assertEqual(self.driver("").failure, "ended before it was told to")

    def test_a_missing_launcher_is_a_failure_not_a_crash(self):
        self.assertIn("No such file", launch.Driver(["/does/not/exist"], {}, 5).failure)

    def test_a_stalled_driver_ends_with_all_its_processes(self):
        script = """
import os
if os.fork() == 0:
    os.setpgid(0, 0)  # as launchers do with their ranks
    os.execlp("sleep", "sleep", "60")
print('{"session": %d}' % os.getsid(0))
""" + ECHO
        driver = self.driver(script, stall=3)
        begin = time.monotonic()
        driver.ask("stall")
        self.assertIn("nothing came", driver.failure)
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(list(launch.processes_of_session(driver.greeting[0]["session"])), [])


if __name__ == "__main__":
    unittest.main()
