# SPDX-License-Identifier: Apache-2.0
# PICTURE is what TOOL draws for TOPOLOGY.
execute_process(COMMAND ${TOOL} plan --topology ${TOPOLOGY} --format svg OUTPUT_VARIABLE drawn COMMAND_ERROR_IS_FATAL ANY)
file(READ ${PICTURE} committed)
if(NOT drawn STREQUAL committed)
  message(FATAL_ERROR "${PICTURE} is out of date: run `tutti plan --topology ${TOPOLOGY} --format svg -o ${PICTURE}`")
endif()
