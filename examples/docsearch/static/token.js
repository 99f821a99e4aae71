// The token that opens the event stream. It comes with the address that the app prints.

const KEY = "docsearch.token";

// Returns the token, or "" if there is none. It leaves the address bar at once, where it would be
// seen, bookmarked and sent on; the tab keeps it, so that a reload works.
export function takeToken() {
  const address = new URL(location.href);
  const token = address.searchParams.get("token");
  if (token) {
    sessionStorage.setItem(KEY, token);
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }
  return token || sessionStorage.getItem(KEY) || "";
}
