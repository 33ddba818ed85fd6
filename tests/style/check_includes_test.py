#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The include check itself: what it must find, and what it must leave alone."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "cmake"))
import check_includes  # noqa: E402

ALLOWED = check_includes.parse_table((ROOT / "docs/architecture.md").read_text())
SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


def problems(path, body):
    return [what for _, what in check_includes.check_file(path, SPDX + body, ALLOWED)]


class CheckIncludes(unittest.TestCase):
    def test_reads_the_table(self):
        self.assertEqual(ALLOWED["src/base"], {"src/base"})
        self.assertEqual(ALLOWED["src/net"], {"src/net", "src/base", "src/observe"})
        self.assertEqual(ALLOWED["perf"], {"perf", "include/tutti"})
        self.assertIn("src/group", ALLOWED["src/api"])
        self.assertNotIn("src/api", ALLOWED["src/group"])
        self.assertIn("src/plan", ALLOWED["tools"])
        self.assertNotIn("src/comm", ALLOWED["tools"])

    def test_finds_an_include_that_points_up(self):
        self.assertEqual(problems("src/base/a.cc", '#include "plan/plan.h"\n'),
                         ["src/base may not include src/plan (plan/plan.h)"])
        self.assertEqual(len(problems("src/plan/a.h", '#include "transports/transport.h"\n')), 1)
        self.assertEqual(len(problems("perf/a.cc", '#include "base/status.h"\n')), 1)
        self.assertEqual(len(problems("src/algo/a.h", "#include <tutti/tutti.h>\n")), 1)

    def test_leaves_includes_that_point_down(self):
        self.assertEqual(problems("src/plan/a.cc", '#include "algo/step.h"\n#include <vector>\n#include "fmt/core.h"\n'), [])
        self.assertEqual(problems("src/api/a.cc", '#include <tutti/tutti.h>\n#include "comm/comm.h"\n'), [])
        self.assertEqual(problems("transports/shm/a.cc", '#include "transports/transport.h"\n'), [])
        self.assertEqual(problems("tests/plan/a.cc", '#include "comm/comm.h"\n'), [])

    def test_finds_a_folder_without_a_row(self):
        self.assertEqual(len(problems("src/misc/a.cc", "")), 1)

    def test_finds_words(self):
        self.assertEqual(problems("src/net/a.cc", "goto out;\n"), ["goto"])
        self.assertEqual(len(problems("src/net/a.cc", "volatile int x;\n")), 1)
        self.assertEqual(len(problems("src/net/a.cc", 'auto x = std::getenv("RANK");\n')), 1)
        self.assertEqual(len(problems("src/net/a.cc", "int a = 60'000; volatile int x = 1'0;\n")), 1)

    def test_leaves_comments_strings_and_asm(self):
        self.assertEqual(problems("src/net/a.cc", '// no goto, no volatile\n/* getenv( */ auto s = "goto";\n'), [])
        self.assertEqual(problems("src/base/a.h", 'asm volatile("yield");\n'), [])
        self.assertEqual(problems("src/base/env.cc", "::getenv(name);\n"), [])
        self.assertEqual(problems("perf/a.cc", 'std::getenv("RANK");\n'), [])

    def test_wants_a_licence(self):
        self.assertEqual(check_includes.check_file("src/net/a.cc", "int a;\n", ALLOWED),
                         [(1, "does not open with its SPDX line")])


if __name__ == "__main__":
    unittest.main()
