# SPDX-License-Identifier: Apache-2.0
# The JSON of `tutti plan` has the members that docs/planner.md states, with the figures that follow from the fixture.
execute_process(
  COMMAND ${TOOL} plan --topology ${FIXTURES}/nccl-cube-mesh.xml --op all_reduce --ranks 8 --bytes 8:1G --json
  OUTPUT_VARIABLE json
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "tutti plan ended with ${status}")
endif()
function(expect value)
  string(JSON found GET "${json}" ${ARGN})
  if(NOT found MATCHES "^${value}")
    message(FATAL_ERROR "${ARGN} is ${found}, expected ${value}")
  endif()
endfunction()
string(JSON rings LENGTH "${json}" rings channels)
string(JSON ring LENGTH "${json}" rings channels 0)
string(JSON sizes LENGTH "${json}" choice)
string(JSON candidates LENGTH "${json}" choice 0 candidates)
if(rings LESS 6
   OR NOT ring EQUAL 8
   OR NOT sizes EQUAL 28
   OR candidates LESS 3)
  message(FATAL_ERROR "${rings} rings of ${ring} devices, ${sizes} sizes with ${candidates} candidates")
endif()
expect(120 rings total_gbps)
expect(132 bound_gbps)
expect(GPU0 rings channels 0 0)
expect(GPU0 trees channels 0 0)
expect(8 choice 0 bytes)
expect(1073741824 choice 27 bytes)
expect(ring choice 27 algorithm)
expect(simple choice 27 protocol)
expect("[0-9]" choice 27 predicted_us)
expect("[0-9]" choice 27 channels)
expect("[0-9.]+ times" choice 27 candidates 1 lost)
expect("[0-9]" trees bandwidth_gbps)
expect("0.909" optimality)
