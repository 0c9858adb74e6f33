// A client made with golang.org/x/crypto/ssh. Arguments and exit codes as in paramiko_client.py; files are not its
// business, for they take another module.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

const (
	endedBySignal = 254
	failed        = 255
)

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(failed)
}

func proof(key, certificate string) (ssh.Signer, error) {
	text, err := os.ReadFile(key)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil || certificate == "-" {
		return signer, err
	}
	text, err = os.ReadFile(certificate)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, err
	}
	return ssh.NewCertSigner(public.(*ssh.Certificate), signer)
}

func config(user, key, certificate, knownHosts string) (*ssh.ClientConfig, error) {
	signer, err := proof(key, certificate)
	if err != nil {
		return nil, err
	}
	check, err := knownhosts.New(knownHosts)
	if err != nil {
		return nil, err
	}
	return &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback:   check,
		HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
	}, nil
}

func connect(addr, jump, key, certificate, knownHosts, user string) (*ssh.Client, error) {
	inner, err := config(user, key, certificate, knownHosts)
	if err != nil {
		return nil, err
	}
	if jump == "-" {
		return ssh.Dial("tcp", addr, inner)
	}
	parts := strings.Split(jump, ":")
	outer, err := config(parts[2], key, certificate, knownHosts)
	if err != nil {
		return nil, err
	}
	first, err := ssh.Dial("tcp", net.JoinHostPort(parts[0], parts[1]), outer)
	if err != nil {
		return nil, err
	}
	stream, err := first.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	connection, channels, requests, err := ssh.NewClientConn(stream, addr, inner)
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(connection, channels, requests), nil
}

func codeOf(err error) int {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Signal() != "":
		fmt.Fprintln(os.Stderr, "signal", exit.Signal())
		return endedBySignal
	case errors.As(err, &exit):
		return exit.ExitStatus()
	}
	fmt.Fprintln(os.Stderr, err)
	return failed
}

func run(client *ssh.Client, command string, terminal bool) int {
	session, err := client.NewSession()
	if err != nil {
		fail(err)
	}
	if terminal {
		if err := session.RequestPty("xterm", 30, 100, ssh.TerminalModes{ssh.ECHO: 1}); err != nil {
			fail(err)
		}
	}
	session.Stdout, session.Stderr = os.Stdout, os.Stderr
	// Not `session.Stdin`: its end would be waited for although the program has ended.
	stdin, err := session.StdinPipe()
	if err != nil {
		fail(err)
	}
	go func() {
		io.Copy(stdin, os.Stdin)
		stdin.Close()
	}()
	return codeOf(session.Run(command))
}

// So many channels at once, their output one after the other.
func many(client *ssh.Client, count int, command string) int {
	outputs, codes := make([][]byte, count), make([]int, count)
	var all sync.WaitGroup
	for n := 0; n < count; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			session, err := client.NewSession()
			if err != nil {
				codes[n] = codeOf(err)
				return
			}
			outputs[n], err = session.Output(command)
			codes[n] = codeOf(err)
		}(n)
	}
	all.Wait()
	most := 0
	for n := 0; n < count; n++ {
		os.Stdout.Write(outputs[n])
		if codes[n] > most {
			most = codes[n]
		}
	}
	return most
}

func forward(client *ssh.Client, addr string) int {
	stream, err := client.Dial("tcp", addr)
	if err != nil {
		fail(err)
	}
	go func() {
		io.Copy(stream, os.Stdin)
		stream.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if _, err := io.Copy(os.Stdout, stream); err != nil {
		fail(err)
	}
	return 0
}

func main() {
	a := os.Args
	client, err := connect(net.JoinHostPort(a[1], a[2]), a[7], a[4], a[5], a[6], a[3])
	if err != nil {
		fail(err)
	}
	code := failed
	switch a[8] {
	case "exec", "terminal":
		code = run(client, a[9], a[8] == "terminal")
	case "many":
		count, err := strconv.Atoi(a[9])
		if err != nil {
			fail(err)
		}
		code = many(client, count, a[10])
	case "forward":
		code = forward(client, net.JoinHostPort(a[9], a[10]))
	}
	client.Close()
	os.Exit(code)
}
