// SPDX-License-Identifier: Apache-2.0
// One program per collective: compiled once each, with PERF_PROGRAM naming the row of the table (collectives.cc).
#include "perf/run_tool.h"

int main(int argc, char** argv) { return tutti::perf::run_tool(PERF_PROGRAM, argc, argv); }
