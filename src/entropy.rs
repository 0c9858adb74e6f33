//! The only source of randomness: the operating system's.

/// Fills `bytes` from the operating system.
///
/// # Panics
/// If the kernel refuses randomness, which it does not once the machine has
/// booted; going on with predictable keys would be worse than stopping.
pub fn fill(bytes: &mut [u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(done) => rest = rest.get_mut(done..).unwrap_or_default(),
            Err(error) => panic!("no randomness from the kernel: {error}"),
        }
    }
}

/// 16 fresh bytes, for an id.
pub fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    bytes
}
