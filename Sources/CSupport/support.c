/* The headers of this target are all inline; SwiftPM wants one object file. */
#include "atomics.h"
#include "kernels.h"
