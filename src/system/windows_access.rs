//! Access lists of files on Windows: what mode 0600 and 0700 are on Unix.
//!
//! A private file or directory has a protected list from its creation on: the user of this process,
//! SYSTEM and the administrators have full access, and nothing is inherited from the directory
//! above. What is created in a private directory inherits that list.
//!
//! std cannot pass an access list to the call that creates a file, so this file calls the system
//! itself. The list names the user and not "the owner": the owner of what an administrator creates
//! may be the group of administrators.
#![expect(unsafe_code, reason = "std has no call that creates a file with an access list")]

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt as _;
use std::os::windows::io::{FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    CloseHandle, ERROR_SUCCESS, GENERIC_WRITE, HANDLE, INVALID_HANDLE_VALUE, LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
    GetNamedSecurityInfoW, SDDL_REVISION_1, SE_FILE_OBJECT, SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    ACL, DACL_SECURITY_INFORMATION, GetSecurityDescriptorControl, GetTokenInformation,
    PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, SE_DACL_PROTECTED,
    SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser, UNPROTECTED_DACL_SECURITY_INFORMATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// Room for a token's user: its SID has 68 bytes at most.
const USER_BYTES: usize = 256;
/// Length from which a path needs the prefix that lifts the limit of 260 characters. Names of a
/// directory's entries still fit below that limit.
const LONG: usize = 240;

/// Creates a file for writing that only this user, SYSTEM and the administrators can access.
///
/// # Errors
/// `AlreadyExists`, or another error of the system.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    let name = wide(path)?;
    let list = Descriptor::private("")?;
    let attributes = list.attributes();
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let flags = FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT;
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor that outlives the
    // call.
    let handle = unsafe {
        let (access, how) = (GENERIC_WRITE, CREATE_NEW);
        CreateFileW(name.as_ptr(), access, share, &raw const attributes, how, flags, null_mut())
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open and nothing else owns it.
    Ok(File::from(unsafe { OwnedHandle::from_raw_handle(handle) }))
}

/// Creates a directory that only this user, SYSTEM and the administrators can access. What is
/// created in it inherits that.
///
/// # Errors
/// `AlreadyExists`, or another error of the system.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    let name = wide(path)?;
    let list = Descriptor::private("OICI")?;
    let attributes = list.attributes();
    // SAFETY: as in `create_file`.
    done(unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) })
}

/// Gives a file the access list of another: its own entries, and whether it inherits further ones.
///
/// # Errors
/// The error of the system.
pub fn copy_access_list(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (wide(from)?, wide(to)?);
    let mut list: *mut ACL = null_mut();
    let mut descriptor = Descriptor(null_mut());
    // SAFETY: the name ends with a zero; the list lies within the descriptor, which is freed later.
    let found = unsafe {
        let wanted = DACL_SECURITY_INFORMATION;
        let (list, whole) = (&raw mut list, &raw mut descriptor.0);
        let none = null_mut();
        GetNamedSecurityInfoW(
            from.as_ptr(),
            SE_FILE_OBJECT,
            wanted,
            none,
            none.cast(),
            list,
            null_mut(),
            whole,
        )
    };
    code(found)?;
    let (mut control, mut revision) = (0, 0);
    // SAFETY: the descriptor is the system's own, and both targets are variables of this function.
    done(unsafe {
        GetSecurityDescriptorControl(descriptor.0, &raw mut control, &raw mut revision)
    })?;
    let inherits = if control & SE_DACL_PROTECTED == 0 {
        UNPROTECTED_DACL_SECURITY_INFORMATION
    } else {
        PROTECTED_DACL_SECURITY_INFORMATION
    };
    // SAFETY: the name ends with a zero, and the list lives as long as the descriptor.
    code(unsafe {
        let what = DACL_SECURITY_INFORMATION | inherits;
        SetNamedSecurityInfoW(
            to.as_ptr(),
            SE_FILE_OBJECT,
            what,
            null_mut(),
            null_mut(),
            list,
            null(),
        )
    })
}

/// A security descriptor of the system's memory.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// Returns the descriptor of a private file; `inherit` says what its entries pass on.
    fn private(inherit: &str) -> io::Result<Self> {
        let user = user()?;
        let entries = [user.as_str(), "SY", "BA"].map(|who| format!("(A;{inherit};FA;;;{who})"));
        let text: Vec<u16> = format!("D:P{}\0", entries.concat()).encode_utf16().collect();
        let mut descriptor = Self(null_mut());
        // SAFETY: the text ends with a zero; the result is freed when the value is dropped.
        done(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor.0,
                null_mut(),
            )
        })?;
        Ok(descriptor)
    }

    fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system allocated it, or it is null, which is allowed.
        unsafe { LocalFree(self.0) };
    }
}

/// Returns the user of this process, as `S-1-5-...`.
fn user() -> io::Result<String> {
    let mut token: HANDLE = null_mut();
    // SAFETY: the handle of this process is always valid, and the token is closed below.
    done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
    // Words, since the structure at the start of the buffer holds a pointer.
    let mut buffer = [0_u64; USER_BYTES / 8];
    let mut used = 0;
    let (bytes, target) = (USER_BYTES as u32, buffer.as_mut_ptr().cast());
    // SAFETY: the buffer has as many bytes as are said, and the token is open.
    let found = done(unsafe {
        let found = GetTokenInformation(token, TokenUser, target, bytes, &raw mut used);
        CloseHandle(token);
        found
    });
    found?;
    let mut text: *mut u16 = null_mut();
    // SAFETY: the call above wrote the structure, and the SID that it points to, into the buffer,
    // which is aligned for it. The text ends with a zero and is freed once.
    unsafe {
        let user = &*buffer.as_ptr().cast::<TOKEN_USER>();
        done(ConvertSidToStringSidW(user.User.Sid, &raw mut text))?;
        let length = (0..).take_while(|&at| *text.add(at) != 0).count();
        let copied = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        Ok(copied)
    }
}

/// Returns a path as the system takes it: in UTF-16, with a zero at its end.
fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let mut name: Vec<u16> = path.as_os_str().encode_wide().collect();
    if name.len() >= LONG && !path.as_os_str().to_string_lossy().starts_with(r"\\?\") {
        let whole: Vec<u16> = std::path::absolute(path)?.as_os_str().encode_wide().collect();
        let share: Vec<u16> = r"\\".encode_utf16().collect();
        name = match whole.strip_prefix(share.as_slice()) {
            Some(rest) => r"\\?\UNC\".encode_utf16().chain(rest.iter().copied()).collect(),
            None => r"\\?\".encode_utf16().chain(whole).collect(),
        };
    }
    if name.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path contains a zero"));
    }
    name.push(0);
    Ok(name)
}

fn done(result: windows_sys::core::BOOL) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn code(result: u32) -> io::Result<()> {
    if result == ERROR_SUCCESS { Ok(()) } else { Err(io::Error::from_raw_os_error(result as i32)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windows_sys::Win32::Security::Authorization::ConvertSecurityDescriptorToStringSecurityDescriptorW;

    /// Returns the access list of a file as text.
    fn list_of(path: &Path) -> String {
        let name = wide(path).expect("a path");
        let mut descriptor = Descriptor(null_mut());
        let mut text: *mut u16 = null_mut();
        // SAFETY: as in `copy_access_list` and `user`.
        unsafe {
            let (what, none) = (DACL_SECURITY_INFORMATION, null_mut());
            let found = GetNamedSecurityInfoW(
                name.as_ptr(),
                SE_FILE_OBJECT,
                what,
                none,
                none.cast(),
                null_mut(),
                null_mut(),
                &raw mut descriptor.0,
            );
            code(found).expect("read");
            done(ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor.0,
                SDDL_REVISION_1,
                what,
                &raw mut text,
                null_mut(),
            ))
            .expect("a text");
            let length = (0..).take_while(|&at| *text.add(at) != 0).count();
            let copied = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
            LocalFree(text.cast());
            copied
        }
    }

    /// No entry is for everyone or for users at large, and none was inherited.
    fn check_private(path: &Path) {
        let list = list_of(path);
        let entries: Vec<&str> = list.split('(').skip(1).collect();
        assert!(!entries.is_empty(), "{list}");
        let user = user().expect("a user");
        for entry in entries {
            let who = entry.trim_end_matches(')').rsplit(';').next().unwrap_or_default();
            assert!([user.as_str(), "SY", "BA", "LA"].contains(&who), "{who} in {list}");
            assert!(!entry.split(';').nth(1).unwrap_or_default().contains("ID"), "{list}");
        }
    }

    #[test]
    fn private_file_and_directory_are_for_owner_only() {
        let dir = tempfile::tempdir().expect("a folder");
        let (folder, file) = (dir.path().join("folder"), dir.path().join("folder").join("file"));
        create_dir(&folder).expect("created");
        drop(create_file(&file).expect("created"));
        check_private(&folder);
        check_private(&file);
        let again = create_file(&file).expect_err("it exists");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(create_dir(&folder).expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn access_list_is_copied() {
        let dir = tempfile::tempdir().expect("a folder");
        let (open, closed) = (dir.path().join("open"), dir.path().join("closed"));
        std::fs::write(&open, "").expect("written");
        drop(create_file(&closed).expect("created"));
        let other = dir.path().join("other");
        drop(create_file(&other).expect("created"));
        copy_access_list(&open, &other).expect("copied");
        assert_eq!(list_of(&other).matches('(').count(), list_of(&open).matches('(').count());
        copy_access_list(&closed, &open).expect("copied");
        // Wine keeps the mode of a file and not its list, so it forgets that a list is protected.
        if list_of(&closed).starts_with("D:P") {
            check_private(&open);
        }
    }

    #[test]
    fn long_path_is_created() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = dir.path().to_owned();
        for _ in 0..6 {
            folder.push("x".repeat(60));
            create_dir(&folder).expect("created");
        }
        drop(create_file(&folder.join("file")).expect("created"));
        assert!(folder.join("file").exists());
    }
}
