// SPDX-License-Identifier: Apache-2.0
// `tutti`: looks at what the library would do, and why. A new subcommand is a file beside this one, a declaration in
// command.h, a line in tools/CMakeLists.txt and a row in kCommands.
#include <tutti/tutti.h>

#include <string>

#include "tools/tutti/command.h"

#define TUTTI_STRING_INNER(x) #x
#define TUTTI_STRING(x) TUTTI_STRING_INNER(x)

namespace {

constexpr void (*kCommands[])(CLI::App&) = {
    tutti::tool::add_doctor,
    tutti::tool::add_env,
    tutti::tool::add_plan,
    tutti::tool::add_run,
    tutti::tool::add_status,
    tutti::tool::add_topo,
    tutti::tool::add_trace,
    tutti::tool::add_tune,
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tutti: collective communication for CPUs and GPUs", "tutti");
  app.set_version_flag("--version",
                       "tutti " TUTTI_STRING(TUTTI_MAJOR) "." TUTTI_STRING(TUTTI_MINOR) "." TUTTI_STRING(TUTTI_PATCH));
  app.require_subcommand(1);
  for (const auto add : kCommands) add(app);
  CLI11_PARSE(app, argc, argv);
  return 0;
}
