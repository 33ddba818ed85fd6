// SPDX-License-Identifier: Apache-2.0
// write_whole_file(): a file that others may read at any moment.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace tutti {

// Written beside `path`, then renamed: a reader never sees half of it, and two writers do not mix. Mode 0600. What is
// no file (a device, a pipe, a link such as /dev/stdout) is never replaced but written to. `what` it is, for messages:
// "the dump file".
Status write_whole_file(const std::string& path, std::string_view text, std::string_view what);

}  // namespace tutti
