import COpenBLAS

/// What this library runs on, for a report.
public enum BuildInfo {
  public static var description: String {
    let blas = openblas_get_config().map { String(cString: $0) } ?? "OpenBLAS"
    return "\(blas.filter { $0 != "\n" }), kernels \(KernelLevel.best.rawValue)"
  }
}
