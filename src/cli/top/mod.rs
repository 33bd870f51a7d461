//! `top`: a live view of each app in a terminal.

mod picture;
mod view;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;
use tonic::Status;

use self::picture::{Lever, Picture};
use super::{
    client::refused,
    ended::Exit,
    operator::{Admin, OperatorArgs},
    output::printable,
    watch::{Seen, Watch},
};
use crate::{
    clock,
    proto::{FlushNowRequest, PauseRequest, ResumeRequest},
};

/// Watch each app in a terminal: what it does, what waits, its job, rates and freshness.
///
/// Keys: tab and arrows go from app to app, p pauses or resumes the app, f flushes it (both ask
/// before), q ends. Where the gateway goes away, the last picture stays until it is back.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: OperatorArgs,
}

/// How often the terminal is asked whether anybody still looks for its keys.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Keys and new sizes that are not handled yet; somebody leans on the keyboard.
const EVENTS_MAX: usize = 64;

/// Shows it until `q`, or until `shutdown` completes.
pub async fn run(args: Args, shutdown: impl Future) -> anyhow::Result<()> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Exit::Usage.error("there is no terminal here: use `status --watch`"));
    }
    let mut gateway = args.operator.connect().await?;
    let watch = Watch::begin(gateway.clone()).await?;
    // Restored also where it panics.
    let mut terminal = ratatui::try_init()?;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let keys = tokio::task::spawn_blocking(move || listen(&sender));
    let shown = show(&mut terminal, &mut gateway, watch, events, shutdown).await;
    ratatui::restore();
    shown?;
    keys.await??;
    Ok(())
}

/// Tells what is typed, until nobody listens.
fn listen(events: &mpsc::Sender<Event>) -> io::Result<()> {
    while !events.is_closed() {
        if event::poll(KEY_WAIT)? && events.blocking_send(event::read()?).is_err() {
            break;
        }
    }
    Ok(())
}

async fn show(
    terminal: &mut DefaultTerminal,
    gateway: &mut Admin,
    mut watch: Watch,
    mut events: mpsc::Receiver<Event>,
    shutdown: impl Future,
) -> anyhow::Result<()> {
    let mut picture = Picture::default();
    tokio::pin!(shutdown);
    loop {
        terminal.draw(|frame| view::draw(&picture, frame))?;
        tokio::select! {
            _ = &mut shutdown => return Ok(()),
            seen = watch.next() => match seen? {
                Seen::Status(status) => picture.update(clock::now().instant, *status),
                Seen::Lost(why) => picture.lose(printable(&why)),
            },
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    match meaning(key, picture.asks()) {
                        Some(Key::Quit) => return Ok(()),
                        Some(Key::Next) => picture.go(1),
                        Some(Key::Previous) => picture.go(-1),
                        Some(Key::Pause) => picture.ask_to_pause(),
                        Some(Key::Flush) => picture.ask_to_flush(),
                        Some(Key::No) => picture.told("nothing was done".into()),
                        Some(Key::Yes) => {
                            if let Some((lever, app)) = picture.asked() {
                                let done = pull(gateway, lever, app.clone()).await;
                                picture.told(said(lever, &app, done));
                            }
                        }
                        None => {}
                    }
                }
                // A new size is drawn in at once.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Quit,
    Next,
    Previous,
    Pause,
    Flush,
    Yes,
    No,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum: most keys mean nothing")]
fn meaning(key: KeyEvent, asks: bool) -> Option<Key> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('y') if asks => Some(Key::Yes),
        _ if asks => Some(Key::No),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Tab | KeyCode::Down | KeyCode::Right => Some(Key::Next),
        KeyCode::BackTab | KeyCode::Up | KeyCode::Left => Some(Key::Previous),
        KeyCode::Char('p') => Some(Key::Pause),
        KeyCode::Char('f') => Some(Key::Flush),
        _ => None,
    }
}

async fn pull(gateway: &mut Admin, lever: Lever, app: String) -> Result<(), Status> {
    match lever {
        Lever::Pause => gateway.pause(PauseRequest { app }).await.map(drop),
        Lever::Resume => gateway.resume(ResumeRequest { app }).await.map(drop),
        Lever::Flush => gateway.flush_now(FlushNowRequest { app }).await.map(drop),
    }
}

fn said(lever: Lever, app: &str, done: Result<(), Status>) -> String {
    match done {
        Ok(()) => format!("{app}: {}", lever.done()),
        Err(status) => printable(&format!("{app}: {:#}", refused(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says_and_a_question_takes_y_alone_for_a_yes() {
        let of = |code, asks| meaning(KeyEvent::new(code, KeyModifiers::NONE), asks);
        assert_eq!(of(KeyCode::Char('q'), false), Some(Key::Quit));
        assert_eq!(of(KeyCode::Tab, false), Some(Key::Next));
        assert_eq!(of(KeyCode::Up, false), Some(Key::Previous));
        assert_eq!(of(KeyCode::Char('p'), false), Some(Key::Pause));
        assert_eq!(of(KeyCode::Char('f'), false), Some(Key::Flush));
        assert_eq!(of(KeyCode::Char('y'), false), None);
        assert_eq!(of(KeyCode::Char('y'), true), Some(Key::Yes));
        for no in [KeyCode::Char('n'), KeyCode::Char('q'), KeyCode::Enter] {
            assert_eq!(of(no, true), Some(Key::No));
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(meaning(interrupt, true), Some(Key::Quit));
    }
}
