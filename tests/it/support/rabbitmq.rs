//! RabbitMQ from Debian's package, on ports and a data directory of its own. It dies with the test
//! binary.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::product::free_port;

/// The largest message these brokers take (`max_message_size`).
pub const MAX_MESSAGE_BYTES: usize = 4_000_000;

const BOOT: Duration = Duration::from_secs(120);

/// A broker.
pub struct RabbitMq {
    dir: PathBuf,
    port: u16,
    tls_port: u16,
    distribution_port: u16,
    epmd_port: u16,
    server: Mutex<Option<Child>>,
    _epmd: Child,
    /// Its standard input ends with this process; it then removes what is left.
    _janitor: Child,
}

impl RabbitMq {
    /// The broker that all tests share; they keep apart by names of queues and exchanges.
    pub async fn shared() -> &'static Self {
        static BROKER: OnceLock<RabbitMq> = OnceLock::new();
        tokio::task::spawn_blocking(|| BROKER.get_or_init(Self::start))
            .await
            .unwrap()
    }

    /// The broker for tests that stop it or raise its alarms; one test at a time has it. It is
    /// running when given out.
    pub async fn disruptable() -> tokio::sync::MutexGuard<'static, Self> {
        static BROKER: OnceLock<tokio::sync::Mutex<RabbitMq>> = OnceLock::new();
        let broker = tokio::task::spawn_blocking(|| {
            BROKER.get_or_init(|| tokio::sync::Mutex::new(Self::start()))
        })
        .await
        .unwrap();
        let broker = broker.lock().await;
        broker.boot().await;
        broker
    }

    /// Starts a broker and waits until it speaks AMQP. Blocks.
    fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rabbitmq-")
            .tempdir()
            .unwrap()
            .keep();
        let [port, tls_port, distribution_port, epmd_port] = [(); 4].map(|()| free_port());
        make_certificates(&dir);
        let cookie = dir.join(".erlang.cookie");
        std::fs::write(&cookie, "cookieofthistest").unwrap();
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).unwrap();
        let at = dir.to_string_lossy();
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlisteners.ssl.1 = \
             127.0.0.1:{tls_port}\nssl_options.certfile = {at}/server.pem\nssl_options.keyfile = \
             {at}/server.key\nssl_options.verify = verify_none\nloopback_users = \
             none\ndisk_free_limit.absolute = 10MB\nlog.console = false\nmax_message_size = \
             {MAX_MESSAGE_BYTES}\n"
        );
        std::fs::write(dir.join("rabbitmq.conf"), settings).unwrap();
        // How often acknowledgement timeouts are looked for.
        std::fs::write(
            dir.join("advanced.config"),
            "[{rabbit, [{channel_tick_interval, 500}]}].\n",
        )
        .unwrap();
        std::fs::write(dir.join("enabled_plugins"), "[].\n").unwrap();
        let epmd = Command::new("epmd")
            .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("epmd is missing: apt-get install rabbitmq-server");
        std::fs::write(dir.join("epmd.pid"), epmd.id().to_string()).unwrap();
        let script = "cat >/dev/null; for f in \"$0\"/*.pid; do kill -9 -\"$(cat \"$f\")\"; done; \
                      rm -rf \"$0\"";
        let mut janitor = Command::new("sh");
        janitor
            .args(["-c", script])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let janitor = janitor.process_group(0).spawn().unwrap();
        let broker = Self {
            dir,
            port,
            tls_port,
            distribution_port,
            epmd_port,
            server: Mutex::new(None),
            _epmd: epmd,
            _janitor: janitor,
        };
        broker.boot_now();
        broker
    }

    /// `127.0.0.1:<port>`
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// With the password of `guest`.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// The same over TLS; the certificate is signed by [`RabbitMq::ca_file`].
    pub fn tls_uri(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}/%2f", self.tls_port)
    }

    /// The private CA.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Starts it again after [`RabbitMq::stop`] or [`RabbitMq::kill`]; does nothing when it runs.
    /// Like those it blocks its thread, which is the test's own.
    pub async fn boot(&self) {
        self.boot_now();
    }

    /// Stops it as an operator would, and waits for its end.
    pub async fn stop(&self) {
        self.end(Signal::SIGTERM);
    }

    /// Kills it with -9.
    pub async fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    /// Runs `rabbitmqctl`; what it prints. Takes about two seconds.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.command("rabbitmqctl");
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn boot_now(&self) {
        let mut server = self.server.lock().unwrap();
        if server.is_some() {
            return;
        }
        let log = std::fs::File::create(self.dir.join("console.log")).unwrap();
        let child = self
            .command("rabbitmq-server")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("RabbitMQ is missing: apt-get install rabbitmq-server");
        std::fs::write(self.dir.join("server.pid"), child.id().to_string()).unwrap();
        let mut child = child;
        let deadline = Instant::now() + BOOT;
        while !self.speaks_amqp() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "RabbitMQ did not start ({ended:?}): {}",
                std::fs::read_to_string(self.dir.join("console.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        *server = Some(child);
    }

    fn speaks_amqp(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1))
        else {
            return false;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        stream.write_all(b"AMQP\x00\x00\x09\x01").is_ok() && stream.read_exact(&mut [0; 1]).is_ok()
    }

    fn end(&self, signal: Signal) {
        let Some(mut child) = self.server.lock().unwrap().take() else {
            return;
        };
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut signal = Some(signal);
        // The group, because the server is a shell script around the virtual machine.
        while TcpListener::bind(self.address()).is_err() || child.try_wait().unwrap().is_none() {
            let _ = killpg(
                group,
                signal
                    .take()
                    .or((Instant::now() > deadline).then_some(Signal::SIGKILL)),
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = std::fs::remove_file(self.dir.join("server.pid"));
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(installed().join(tool));
        let dir = self.dir.to_string_lossy();
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.dir)
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", format!("{dir}/mnesia"))
            .env("RABBITMQ_LOG_BASE", format!("{dir}/log"))
            .env("RABBITMQ_CONFIG_FILE", format!("{dir}/rabbitmq.conf"))
            .env(
                "RABBITMQ_ADVANCED_CONFIG_FILE",
                format!("{dir}/advanced.config"),
            )
            .env("RABBITMQ_CONF_ENV_FILE", format!("{dir}/none"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                format!("{dir}/enabled_plugins"),
            )
            .env("RABBITMQ_PID_FILE", format!("{dir}/beam"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none");
        command
    }
}

/// Where the package keeps its own scripts; those in `/usr/sbin` change the user.
fn installed() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib")
        .expect("RabbitMQ is missing: apt-get install rabbitmq-server");
    let newest = versions
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("sbin").is_dir())
        .max();
    newest
        .expect("RabbitMQ is missing: apt-get install rabbitmq-server")
        .join(Path::new("sbin"))
}

/// A CA, and a certificate for 127.0.0.1 that it has signed.
pub fn make_certificates(dir: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(dir)
            .output()
            .expect("openssl is missing: apt-get install openssl");
        assert!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    std::fs::write(
        dir.join("server.ext"),
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"
    ));
    openssl(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=127.0.0.1"
    ));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days \
         2 -extfile server.ext",
    );
}
