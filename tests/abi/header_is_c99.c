/* SPDX-License-Identifier: Apache-2.0
 * The public header in a strict C99 translation unit: it compiles without a warning, and needs nothing before it. */
#include <tutti/tutti.h>

tuttiConfig_t header_is_c99_config(void);
tuttiConfig_t header_is_c99_config(void) {
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  return config;
}
