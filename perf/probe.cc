// SPDX-License-Identifier: Apache-2.0
// See probe.h.
#include "perf/probe.h"

#include <sys/wait.h>
#include <unistd.h>

#include "perf/cuda.h"
#include "perf/library.h"

namespace tutti::perf {
namespace {

// "" or what stands in the way.
std::string look(bool own) {
  const Cuda* cuda = nullptr;
  const Outcome loaded = Cuda::load(&cuda);
  if (!loaded.ok()) return loaded.message();
  if (!own) return "";
  tuttiComm_t comm = nullptr;
  const int first = 0;
  const Outcome made = Library::own().checked(tuttiCommInitAll(&comm, 1, &first), "CommInitAll", nullptr);
  if (made.ok()) (void)tuttiCommDestroy(comm);
  return made.message();
}

}  // namespace

Probed probe_gpus(bool own) {
  int ends[2];
  if (::pipe(ends) != 0) return {false, "pipe failed"};
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string why_not = look(own);
    [[maybe_unused]] const ssize_t written = ::write(ends[1], why_not.data(), why_not.size());
    ::_exit(why_not.empty() ? 0 : 1);
  }
  ::close(ends[1]);
  Probed probed;
  char buffer[512];
  for (ssize_t bytes = 0; (bytes = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    probed.why_not.append(buffer, static_cast<size_t>(bytes));
  ::close(ends[0]);
  int state = 0;
  if (child < 0 || ::waitpid(child, &state, 0) != child) return {false, "fork failed"};
  probed.usable = WIFEXITED(state) && WEXITSTATUS(state) == 0;
  if (!probed.usable && probed.why_not.empty()) probed.why_not = "the process that asked the driver died";
  return probed;
}

}  // namespace tutti::perf
