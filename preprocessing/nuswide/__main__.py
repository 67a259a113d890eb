from preprocessing.nuswide.command.command import main

main()
