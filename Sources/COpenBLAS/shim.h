#ifndef LORASC_COPENBLAS_SHIM_H
#define LORASC_COPENBLAS_SHIM_H
#include <cblas.h>
#include <stddef.h>

/* LAPACK's routines, which OpenBLAS exports without a header of its own. Fortran takes everything
   by address, and the length of a string by value after the last argument. */
void dgesdd_(const char *jobz, const blasint *m, const blasint *n, double *a, const blasint *lda,
             double *s, double *u, const blasint *ldu, double *vt, const blasint *ldvt,
             double *work, const blasint *lwork, blasint *iwork, blasint *info,
             size_t jobz_length);
void dgeqrf_(const blasint *m, const blasint *n, double *a, const blasint *lda, double *tau,
             double *work, const blasint *lwork, blasint *info);
void dorgqr_(const blasint *m, const blasint *n, const blasint *k, double *a, const blasint *lda,
             const double *tau, double *work, const blasint *lwork, blasint *info);

/* The same by value, for dense column-major matrices. Each returns info: 0 for success. With
   lwork = -1 only work[0] is written: the count of doubles that work should have. */

/* A (m, n) = U diag(s) VT with U (m, k), s (k), VT (k, n), k = min(m, n) > 0. A is overwritten,
   iwork has 8 k elements. */
static inline blasint lorasc_dgesdd(blasint m, blasint n, double *a, double *s, double *u,
                                    double *vt, double *work, blasint lwork, blasint *iwork) {
  const blasint k = m < n ? m : n;
  blasint info = 0;
  dgesdd_("S", &m, &n, a, &m, s, u, &m, vt, &k, work, &lwork, iwork, &info, 1);
  return info;
}

/* A (m, n) = Q R: R on and above the diagonal of A, Q as reflectors below it and in tau
   (min(m, n)). */
static inline blasint lorasc_dgeqrf(blasint m, blasint n, double *a, double *tau, double *work,
                                    blasint lwork) {
  blasint info = 0;
  dgeqrf_(&m, &n, a, &m, tau, work, &lwork, &info);
  return info;
}

/* Turns the reflectors of lorasc_dgeqrf into Q (m, n), m >= n. */
static inline blasint lorasc_dorgqr(blasint m, blasint n, double *a, const double *tau,
                                    double *work, blasint lwork) {
  blasint info = 0;
  dorgqr_(&m, &n, &n, a, &m, tau, work, &lwork, &info);
  return info;
}
#endif
