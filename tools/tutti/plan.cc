// SPDX-License-Identifier: Apache-2.0
// `tutti plan`: what the planner decides and what it may decide from. Its subcommands are files of their own.
#include "tools/tutti/command.h"

namespace tutti::tool {

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Look at plans, and at schedules before they may run");
  command->require_subcommand(1);
  add_plan_picture(*command);
  add_plan_verify(*command);
}

}  // namespace tutti::tool
