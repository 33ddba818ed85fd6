// SPDX-License-Identifier: Apache-2.0
// TUTTI_KERNEL_IMAGES is the folder of the images, TUTTI_KERNEL_ARCHITECTURES their architectures; neither is there in
// a build without nvcc.
#include "exec/cuda/kernel_images.h"

#if defined(TUTTI_KERNEL_IMAGES)
#define TUTTI_EMBED(proto)                                   \
  __asm__(                                                   \
      ".pushsection .rodata.tutti_kernels,\"a\",%progbits\n" \
      ".balign 64\n"                                         \
      "tutti_image_" #proto                                  \
      ":\n"                                                  \
      ".incbin \"" TUTTI_KERNEL_IMAGES "/" #proto            \
      ".fatbin\"\n"                                          \
      "tutti_image_" #proto                                  \
      "_end:\n"                                              \
      ".popsection\n");                                      \
  extern "C" {                                               \
  extern const unsigned char tutti_image_##proto[];          \
  extern const unsigned char tutti_image_##proto##_end[];    \
  }
#define TUTTI_EMBEDDED(proto) \
  { tutti_image_##proto, tutti_image_##proto##_end }
#else
#define TUTTI_EMBED(proto)
#define TUTTI_EMBEDDED(proto) \
  { kNothing, sizeof kNothing }
#define TUTTI_KERNEL_ARCHITECTURES ""
#endif

TUTTI_EMBED(simple)
TUTTI_EMBED(ll)
TUTTI_EMBED(ll128)
TUTTI_EMBED(remote)

namespace tutti::cuda {

[[maybe_unused]] static constexpr unsigned char kNothing[] = "no kernels";

std::span<const unsigned char> kernel_image(KernelProto proto) {
  switch (proto) {
    case KernelProto::Simple:
      return TUTTI_EMBEDDED(simple);
    case KernelProto::LL:
      return TUTTI_EMBEDDED(ll);
    case KernelProto::LL128:
      return TUTTI_EMBEDDED(ll128);
    case KernelProto::Remote:
      return TUTTI_EMBEDDED(remote);
  }
  return {};
}

std::string_view kernel_architectures() { return TUTTI_KERNEL_ARCHITECTURES; }

}  // namespace tutti::cuda
