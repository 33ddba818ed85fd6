# SPDX-License-Identifier: Apache-2.0
# docs/environment.md is what `tutti env --markdown` writes.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${TOOL} env --markdown OUTPUT_VARIABLE expected COMMAND_ERROR_IS_FATAL ANY)
file(READ ${PAGE} committed)
if(NOT expected STREQUAL committed)
  message(FATAL_ERROR "docs/environment.md is out of date: run `tutti env --markdown > docs/environment.md`")
endif()
