// SPDX-License-Identifier: Apache-2.0
// The subcommands of `tutti`. Each lives in the file of its name and adds itself to the parser: its options, its help
// and, as the callback, what it does. A callback that fails throws CLI::RuntimeError with the exit status.
#pragma once

#include <CLI/CLI.hpp>

namespace tutti::tool {

void add_doctor(CLI::App& app);
void add_env(CLI::App& app);
void add_plan(CLI::App& app);
void add_plan_picture(CLI::App& plan);  // these under `tutti plan`
void add_plan_verify(CLI::App& plan);
void add_run(CLI::App& app);
void add_status(CLI::App& app);
void add_topo(CLI::App& app);
void add_trace(CLI::App& app);
void add_tune(CLI::App& app);

}  // namespace tutti::tool
