//! Drives one [`Endpoint`]: sockets, the server, the call to Register, the clock.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cdmo_proto::deviceplugin::device_plugin_server::DevicePluginServer;
use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::{Action, Endpoint, Event};
use crate::Registration;
use crate::directory::Directory;
use crate::kubelet;
use crate::service::Service;
use crate::shared::{EndpointInputs, Shared};
use crate::socket::{self, KUBELET_SOCKET, SocketNames};

/// One endpoint's outside.
pub(crate) struct Task {
    shared: Arc<Shared>,
    resource: Arc<str>,
    inputs: EndpointInputs,
    directory: watch::Receiver<Directory>,
    standing_down: watch::Receiver<bool>,
    names: Arc<SocketNames>,
    /// Sockets made so far.
    sockets: u32,
    server: Option<Server>,
    register: Option<BoxFuture<'static, Result<(), String>>>,
    due: Option<Instant>,
}

/// A socket that is being served.
struct Server {
    path: PathBuf,
    open: watch::Receiver<usize>,
    close: watch::Sender<()>,
    stop: CancellationToken,
}

impl Task {
    pub(crate) fn new(
        shared: Arc<Shared>,
        resource: &str,
        inputs: EndpointInputs,
        directory: watch::Receiver<Directory>,
        names: Arc<SocketNames>,
    ) -> Self {
        let standing_down = shared.standing_down();
        Self {
            shared,
            standing_down,
            resource: Arc::from(resource),
            inputs,
            directory,
            names,
            sockets: 0,
            server: None,
            register: None,
            due: None,
        }
    }

    /// Registers and stays registered until shutdown.
    pub(crate) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        let mut machine = Endpoint::new(&self.shared.config.timing);
        tokio::select! {
            () = self.shared.holders_known.cancelled() => {
                let first = Event::Looked(self.look());
                self.handle(&mut machine, first);
            }
            () = shutdown.cancelled() => {}
        }
        while !shutdown.is_cancelled() {
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                event = self.next() => event,
            };
            self.handle(&mut machine, event);
        }
        self.handle(&mut machine, Event::Shutdown);
    }

    /// The next thing that happens.
    async fn next(&mut self) -> Event {
        let due = OptionFuture::from(self.due.map(tokio::time::sleep_until));
        let registered = OptionFuture::from(self.register.as_mut());
        let streams = OptionFuture::from(self.server.as_mut().map(|server| server.open.changed()));
        tokio::select! {
            Some(Ok(())) = streams => {
                let open = self.server.as_mut().map_or(0, |s| *s.open.borrow_and_update());
                Event::Streams(open)
            }
            Some(result) = registered => {
                self.register = None;
                Event::Registered(result)
            }
            Some(()) = due => {
                self.due = None;
                Event::Due
            }
            () = self.inputs.starved.notified() => Event::Starved,
            Ok(()) = self.standing_down.changed() => Event::Looked(self.look()),
            Ok(()) = self.directory.changed() => Event::Looked(self.look()),
        }
    }

    fn handle(&mut self, machine: &mut Endpoint, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in machine.handle(event) {
                events.extend(self.perform(action));
            }
        }
        let registration = machine.registration();
        match &registration {
            Registration::Retrying { attempt, reason } => {
                tracing::warn!(resource = %self.resource, attempt, %reason, "Not registered");
            }
            other => tracing::debug!(resource = %self.resource, ?other, "Registration"),
        }
        self.shared.set_registration(&self.resource, registration);
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Listen => {
                self.unlisten();
                return Some(Event::Listening(self.listen()));
            }
            Action::Register { attempt } => self.register(attempt),
            Action::CloseStreams => {
                if let Some(server) = &self.server {
                    server.close.send_replace(());
                }
            }
            Action::Timer(after) => self.due = after.map(|after| Instant::now() + after),
            Action::Unlisten => self.unlisten(),
        }
        None
    }

    fn look(&mut self) -> super::Look {
        let others = !self.directory.borrow_and_update().rivals.is_empty();
        let yields = *self.standing_down.borrow_and_update() || others;
        let own = self.server.as_ref().map(|server| server.path.as_path());
        socket::look(&self.shared.config.plugin_dir, own, yields)
    }

    fn listen(&mut self) -> Result<(), String> {
        let path = self
            .names
            .path(&self.resource, self.sockets)
            .map_err(|error| error.to_string())?;
        self.sockets += 1;
        let listener = socket::listen(&path)
            .map_err(|error| format!("failed to listen on {}: {error}", path.display()))?;
        let (open, open_count) = watch::channel(0);
        let close = watch::Sender::new(());
        let service = Service {
            shared: Arc::clone(&self.shared),
            resource: Arc::clone(&self.resource),
            lists: self.inputs.lists.clone(),
            close: close.subscribe(),
            open,
        };
        let stop = CancellationToken::new();
        let server = tonic::transport::Server::builder().serve_with_incoming_shutdown(
            DevicePluginServer::new(service),
            UnixListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
        let resource = Arc::clone(&self.resource);
        let limit = self.shared.config.timing.close_timeout;
        let stopped = stop.clone();
        // Once stopped it ends by itself, at the latest after the close time-out.
        self.shared.tasks.spawn(async move {
            let over = async {
                stopped.cancelled().await;
                tokio::time::sleep(limit).await;
            };
            tokio::select! {
                ended = server => if let Err(error) = ended {
                    tracing::error!(%error, %resource, "The endpoint stopped serving");
                },
                () = over => tracing::warn!(%resource, "The kubelet kept its connection open"),
            }
        });
        tracing::debug!(resource = %self.resource, path = %path.display(), "Listening");
        self.server = Some(Server {
            path,
            open: open_count,
            close,
            stop,
        });
        Ok(())
    }

    fn unlisten(&mut self) {
        if let Some(server) = self.server.take() {
            server.close.send_replace(());
            server.stop.cancel();
            socket::remove(&server.path);
        }
    }

    fn register(&mut self, attempt: u32) {
        let config = &self.shared.config;
        let Some(name) = self
            .server
            .as_ref()
            .and_then(|server| file_name(&server.path))
        else {
            return;
        };
        let kubelet = config.plugin_dir.join(KUBELET_SOCKET);
        let limit = config.timing.register_timeout;
        let resource = self.resource.to_string();
        tracing::info!(%resource, attempt, socket = %name, "Registering");
        self.register = Some(Box::pin(async move {
            let answer = kubelet::register(&kubelet, name, resource, limit).await;
            answer.map_err(|error| error.to_string())
        }));
    }
}

fn file_name(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}
