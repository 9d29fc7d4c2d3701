import COpenBLAS
import CSupport

/// What this library runs on, for a report.
public enum BuildInfo {
  public static var description: String {
    let blas = openblas_get_config().map { String(cString: $0) } ?? "OpenBLAS"
    let version = lorasc_onednn_version()
    let oneDNN =
      version == 0
      ? "no oneDNN" : "oneDNN \(version / 10000).\(version / 100 % 100).\(version % 100)"
    return "\(blas.filter { $0 != "\n" }), \(oneDNN), products \(MatrixProducts.best.rawValue), "
      + "kernels \(KernelLevel.best.rawValue)"
  }
}
