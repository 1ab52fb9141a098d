//! Profiles of the user's own: `NAME.toml` in a folder, each in place of the embedded one of that name or beside them.

use crate::{Error, Profile, profile};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const EXTENSION: &str = "toml";

/// Where a profile comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is built in.
    Embedded,
    /// A file of the user's.
    File {
        /// The file.
        path: PathBuf,
        /// Whether it stands in for an embedded profile of the same name.
        replaces: bool,
    },
}

/// A profile, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The profile.
    pub profile: Profile,
    /// Where it comes from.
    pub origin: Origin,
}

impl Profile {
    /// The profile of that name: `NAME.toml` of `folder`, else the embedded one. The folder need not exist.
    ///
    /// # Errors
    /// [`Error::Unknown`], which lists the names of both; the others if the user's file is bad, which is never passed over.
    pub fn find_in(name: &str, folder: &Path) -> Result<Self, Error> {
        if !is_name(name) {
            return Err(Error::Unknown { name: name.into(), known: names(folder)? });
        }
        let path = file(folder, name);
        match own(name, &path) {
            Err(Error::Read { source, .. }) if is_absent(&source) => {}
            found => return found,
        }
        match profile::embedded(name) {
            Some(found) => found,
            None => Err(Error::Unknown { name: name.into(), known: names(folder)? }),
        }
    }

    /// Every profile: the embedded ones in their order, replaced where `folder` does so, then the user's others by name.
    ///
    /// # Errors
    /// If the folder or one of its profiles cannot be read or is bad.
    pub fn all_in(folder: &Path) -> Result<Vec<Listed>, Error> {
        let mut own_names = own_names(folder)?;
        let load = |name: &str, replaces: bool| {
            let path = file(folder, name);
            own(name, &path).map(|profile| Listed { profile, origin: Origin::File { path, replaces } })
        };
        let mut out = Vec::new();
        for embedded in Self::all() {
            match own_names.iter().position(|name| *name == embedded.name) {
                Some(at) => out.push(load(&own_names.remove(at), true)?),
                None => out.push(Listed { profile: embedded, origin: Origin::Embedded }),
            }
        }
        for name in &own_names {
            out.push(load(name, false)?);
        }
        Ok(out)
    }
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{EXTENSION}"))
}

/// A name that is no path, on whatever system the host runs.
fn is_name(name: &str) -> bool {
    !name.starts_with('.') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The user's profile of that name.
fn own(name: &str, path: &Path) -> Result<Profile, Error> {
    let profile = Profile::load(path)?;
    if profile.name != name {
        return Err(Error::OtherName { path: path.into(), expected: name.into(), found: profile.name });
    }
    Ok(profile)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Names of the user's profiles, sorted.
fn own_names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Read { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Err(source) if is_absent(&source) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_name(stem));
        if let (Some(stem), true) = (stem, path.extension().is_some_and(|extension| extension == EXTENSION)) {
            out.push(stem.to_owned());
        }
    }
    out.sort();
    Ok(out)
}

/// Names of all profiles, the embedded ones first.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut out = profile::embedded_names();
    for name in own_names(folder)? {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JETSON: &str = include_str!("../jetson.toml");

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn named(name: &str) -> String {
        JETSON.replace("name = \"jetson\"", &format!("name = \"{name}\""))
    }

    #[test]
    fn a_users_file_stands_in_for_an_embedded_one_or_adds_to_them() {
        let faster = JETSON.replace("threads = 0", "threads = 3");
        let dir = folder(&[("jetson.toml", &faster), ("toaster-2.1.toml", &named("toaster-2.1")), ("notes.txt", "no profile")]);
        assert_eq!(Profile::find_in("jetson", dir.path()).unwrap().threads, 3);
        assert_eq!(Profile::find("jetson").unwrap().threads, 0, "the embedded one stays what it is");
        assert_eq!(Profile::find_in("toaster-2.1", dir.path()).unwrap().name, "toaster-2.1");
        assert_eq!(Profile::find_in("android", dir.path()).unwrap(), Profile::find("android").unwrap());

        let all = Profile::all_in(dir.path()).unwrap();
        let names: Vec<_> = all.iter().map(|listed| listed.profile.name.as_str()).collect();
        let mut expected: Vec<_> = profile::embedded_names();
        expected.push("toaster-2.1".into());
        assert_eq!(names, expected);
        for Listed { profile, origin } in &all {
            let path = dir.path().join(format!("{}.toml", profile.name));
            let wanted = match profile.name.as_str() {
                "jetson" => Origin::File { path, replaces: true },
                "toaster-2.1" => Origin::File { path, replaces: false },
                _ => Origin::Embedded,
            };
            assert_eq!(*origin, wanted, "{}", profile.name);
        }
        let unknown = Profile::find_in("toaster", dir.path()).unwrap_err().to_string();
        assert!(unknown.contains("unknown target `toaster`") && unknown.contains("toaster-2.1"), "{unknown}");
    }

    #[test]
    fn a_folder_that_is_not_there_holds_none() {
        let nowhere = Path::new("/nowhere/targets");
        assert_eq!(Profile::find_in("jetson", nowhere).unwrap(), Profile::find("jetson").unwrap());
        let all: Vec<_> = Profile::all_in(nowhere).unwrap().into_iter().map(|listed| listed.profile).collect();
        assert_eq!(all, Profile::all());
        assert!(matches!(Profile::find_in("toaster", nowhere), Err(Error::Unknown { .. })));
    }

    #[test]
    fn a_bad_file_is_an_error_and_never_passed_over() {
        let dir = folder(&[("jetson.toml", "name = 3"), ("android.toml", JETSON)]);
        let error = Profile::find_in("jetson", dir.path()).unwrap_err();
        assert!(matches!(&error, Error::Parse { origin, .. } if origin.ends_with("jetson.toml")), "{error}");
        let error = Profile::find_in("android", dir.path()).unwrap_err();
        assert!(
            matches!(&error, Error::OtherName { expected, found, .. } if expected == "android" && found == "jetson"),
            "{error}"
        );
        assert!(error.to_string().contains("android.toml"), "{error}");
        assert!(Profile::all_in(dir.path()).is_err());
        assert!(Profile::find_in("raspberry-pi", dir.path()).is_ok(), "other profiles are not looked at");
    }

    #[test]
    fn a_path_names_no_target() {
        let dir = folder(&[("secret.toml", &named("secret"))]);
        let inner = dir.path().join("targets");
        fs::create_dir(&inner).unwrap();
        let outside = dir.path().join("secret").display().to_string();
        for name in ["../secret", outside.as_str(), "", ".", "..", ".hidden", "a/b", "a\\b", "c:x", "a b"] {
            let error = Profile::find_in(name, &inner).unwrap_err();
            assert!(matches!(&error, Error::Unknown { .. }), "{name}: {error}");
        }
    }
}
