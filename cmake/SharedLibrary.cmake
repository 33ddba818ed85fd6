# SPDX-License-Identifier: Apache-2.0
# How libtutti.so is linked: it exports tutti* and nothing else, needs only libc's family at load, and is never unloaded
# (its threads and handlers may outlive a dlclose). tests/abi checks the outcome.
set_target_properties(tutti PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE CXX
                                       INSTALL_RPATH "" LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/tutti.map)
target_include_directories(tutti INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_link_libraries(tutti PRIVATE $<BUILD_INTERFACE:tutti_dependencies>)
target_link_options(tutti PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/tutti.map LINKER:--exclude-libs,ALL
                                  LINKER:-z,nodelete)

# A sanitizer's run time is one per process and comes with the program: the library must leave its symbols undefined and
# share the C++ run time with it.
if("${CMAKE_CXX_FLAGS} ${CMAKE_SHARED_LINKER_FLAGS}" MATCHES "-fsanitize")
  set(TUTTI_SANITIZED TRUE)
else()
  set(TUTTI_SANITIZED FALSE)
  target_link_options(tutti PRIVATE LINKER:-z,defs -static-libstdc++ -static-libgcc)
endif()
