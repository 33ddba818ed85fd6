// SPDX-License-Identifier: Apache-2.0
// The main program that all benchmarks share.
#pragma once

namespace tutti::perf {

int run_tool(const char* program, int argc, char** argv);

}  // namespace tutti::perf
