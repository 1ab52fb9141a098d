use super::*;

/// A server that sends back what it gets.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

#[test]
fn it_forwards_and_counts() {
    let proxy = Proxy::to(echo());
    let bytes: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    assert_eq!(exchange(&mut connect(&proxy), &bytes).unwrap(), bytes);
    assert_eq!((proxy.forwarded(Towards::Device), proxy.forwarded(Towards::Host)), (200_000, 200_000));
    assert_eq!((proxy.connections(), proxy.fired()), (1, 0));
}

#[test]
fn it_breaks_at_the_byte_it_was_told() {
    let proxy = Proxy::to(echo());
    proxy.after(Towards::Device, 7, Fault::Flip);
    let mut first = connect(&proxy);
    assert_eq!(exchange(&mut first, b"0123456789").unwrap(), b"0123456689");
    proxy.after(Towards::Device, 3, Fault::Cut);
    assert!(exchange(&mut first, b"0123456789").is_err());
    assert_eq!(proxy.forwarded(Towards::Device), 13);
    proxy.after(Towards::Host, 5, Fault::Stall);
    let mut second = connect(&proxy);
    assert_eq!(exchange(&mut second, b"0123456789").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(proxy.fired(), 3);
    // Others are not affected, and what is armed is for the next byte only.
    assert_eq!(exchange(&mut connect(&proxy), b"abc").unwrap(), b"abc");
}

#[test]
fn it_refuses_and_comes_back() {
    let proxy = Proxy::to(echo());
    proxy.refuse(true);
    assert!(TcpStream::connect(("127.0.0.1", proxy.port)).is_err());
    proxy.refuse(false);
    assert_eq!(exchange(&mut connect(&proxy), b"abc").unwrap(), b"abc");
}

#[test]
fn it_is_as_slow_as_it_was_told() {
    let proxy = Proxy::to(echo());
    proxy.slow(Duration::from_millis(20), 0);
    let mut stream = connect(&proxy);
    let begun = Instant::now();
    exchange(&mut stream, b"abc").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(40), "there and back");
    proxy.slow(Duration::ZERO, 1 << 20);
    let begun = Instant::now();
    stream.set_read_timeout(None).unwrap();
    exchange(&mut stream, &vec![7; 1 << 18]).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}
