#ifndef LORASC_COPENBLAS_SHIM_H
#define LORASC_COPENBLAS_SHIM_H
#include <cblas.h>
#endif
