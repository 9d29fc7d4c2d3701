extension Model {
  /// What is written must not be what is open.
  func refuseOwn(_ path: String) throws {
    try Files.check(path: path)
    if !isOfHost, let target = Files.status(of: path), let source = Files.status(of: self.path),
      target.st_ino == source.st_ino, target.st_dev == source.st_dev
    {
      throw LorascError(.argument, "\(path): is the open model itself", subject: path)
    }
  }
}
