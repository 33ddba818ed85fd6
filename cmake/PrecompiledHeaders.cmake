# SPDX-License-Identifier: Apache-2.0
# A fifth to a quarter of what compiling a file takes here is parsing the standard library, fmt and GoogleTest: done once
# for all files of the library, and once for all tests. Not where there is a compiler launcher: caches do badly with it, and such builds
# show when a file lacks an include of its own.
set(default ON)
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(default OFF)
endif()
option(TUTTI_PRECOMPILED_HEADERS "Parse common headers once" ${default})

# tutti_precompile(TARGET header...): for the C++ files of TARGET.
function(tutti_precompile target)
  if(TUTTI_PRECOMPILED_HEADERS)
    list(TRANSFORM ARGN REPLACE ".+" "$<$<COMPILE_LANGUAGE:CXX>:\\0>")
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

set(TUTTI_COMMON_HEADERS
    <algorithm> <array> <atomic> <chrono> <condition_variable> <cstdint> <cstring> <deque> <filesystem> <fstream> <functional>
    <map> <memory> <mutex> <optional> <random> <set> <span> <sstream> <string> <string_view> <thread> <unordered_map>
    <utility> <variant> <vector> <fmt/core.h> <fmt/format.h>)
